//! Files as block devices (the `loop` option of row R02).

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use corten_types::{Error, Result};

/// Between asking for a free device and taking it, somebody else may take it.
const RACES_TOLERATED: usize = 100;

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_SET_STATUS: libc::Ioctl = 0x4C04;
const LOOP_GET_STATUS: libc::Ioctl = 0x4C05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
const LO_NAME_BYTES: usize = 64;

/// The kernel's `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    remote_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; LO_NAME_BYTES],
    crypt_name: [u8; LO_NAME_BYTES],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// The kernel's `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_bytes: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// How a file becomes a loop device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopOptions {
    /// Nobody can write through the device.
    pub read_only: bool,
    /// The device bypasses the page cache of the file's filesystem.
    pub direct_io: bool,
}

/// A loop device that frees itself with its last user; this value is one.
///
/// Keep it until it is mounted, or call [`keep`](Self::keep).
#[derive(Debug)]
pub struct LoopDevice {
    path: String,
    device: File,
}

impl LoopDevice {
    /// Attaches `file` (absolute) to a free device.
    ///
    /// # Errors
    /// By class of the system's error; `Unavailable` if others took every free device. Nothing is attached.
    pub fn attach(file: &Path, options: LoopOptions) -> Result<Self> {
        attach(file, options.read_only, options.direct_io)
    }

    /// The device, for example `/dev/loop0`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Lets the device stay also without users, until [`release_loop_device`].
    ///
    /// # Errors
    /// By class of the system's error. The device then goes with this value.
    pub fn keep(self) -> Result<()> {
        set_autoclear(&self.device, false)
            .map_err(|error| Error::io(format!("cannot keep {}", self.path), error))
    }
}

/// Lets a device that was [kept](LoopDevice::keep) go with its last user. No such device, or one without a file, is fine.
///
/// # Errors
/// By class of the system's error.
pub fn release_loop_device(device: &Path) -> Result<()> {
    let cannot = |error| Error::io(format!("cannot release {}", device.display()), error);
    let opened = match OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC).open(device) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot(error)),
    };
    match set_autoclear(&opened, true) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        result => result.map_err(cannot),
    }
}

/// The file that a loop device stands for; `None` if it has none, or is none.
#[must_use]
pub fn loop_backing_file(device: &Path) -> Option<PathBuf> {
    let file = Path::new("/sys/block").join(device.file_name()?).join("loop/backing_file");
    let text = std::fs::read(file).ok()?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    Some(PathBuf::from(OsStr::from_bytes(text)))
}

/// Attaches `file` to a free loop device.
pub(crate) fn attach(file: &Path, read_only: bool, direct_io: bool) -> Result<LoopDevice> {
    let cannot = |error| Error::io(format!("cannot attach {} to a loop device", file.display()), error);
    let open = |path: &Path| {
        OpenOptions::new().read(true).write(!read_only).custom_flags(libc::O_CLOEXEC).open(path)
    };
    let backing = open(file).map_err(cannot)?;
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(|error| Error::io("cannot open /dev/loop-control", error))?;
    for _ in 0..RACES_TOLERATED {
        // SAFETY: this request takes no pointer.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(cannot(io::Error::last_os_error()));
        }
        let path = format!("/dev/loop{number}");
        let device = open(Path::new(&path)).map_err(cannot)?;
        match configure(&device, &backing, file, read_only, direct_io) {
            Ok(()) => return Ok(LoopDevice { path, device }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(cannot(error)),
        }
    }
    Err(Error::unavailable(format!("no loop device could be had for {}", file.display())))
}

fn configure(device: &File, backing: &File, name: &Path, read_only: bool, direct_io: bool) -> io::Result<()> {
    let mut flags = LO_FLAGS_AUTOCLEAR;
    if read_only {
        flags |= LO_FLAGS_READ_ONLY;
    }
    if direct_io {
        flags |= LO_FLAGS_DIRECT_IO;
    }
    let mut file_name = [0; LO_NAME_BYTES];
    // Only a hint for people who list devices: the last byte stays zero.
    let shown = name.as_os_str().as_bytes();
    let shown_bytes = shown.len().min(LO_NAME_BYTES - 1);
    file_name[..shown_bytes].copy_from_slice(&shown[..shown_bytes]);
    let config = LoopConfig {
        file: u32::try_from(backing.as_raw_fd()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        block_bytes: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            remote_device: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name,
            crypt_name: [0; LO_NAME_BYTES],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: `config` has the layout of the kernel's structure and outlives the call, which only reads it.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, std::ptr::from_ref(&config)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the device frees itself with its last user.
fn set_autoclear(device: &File, wanted: bool) -> io::Result<()> {
    // SAFETY: the structure is plain numbers, for which zeros are valid.
    let mut info: LoopInfo = unsafe { std::mem::zeroed() };
    // SAFETY: `info` has the layout of the kernel's structure and outlives the call, which fills it.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS, std::ptr::from_mut(&mut info)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    info.flags = if wanted { info.flags | LO_FLAGS_AUTOCLEAR } else { info.flags & !LO_FLAGS_AUTOCLEAR };
    // SAFETY: as above; this call only reads it.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_STATUS, std::ptr::from_ref(&info)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
