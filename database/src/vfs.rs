//! SQLite's files on a disk with a seam: a VFS that announces every durable operation and leaves the work to the
//! system's. For tests.
//!
//! Shared memory (`-shm`) passes beside the seam: nothing in it survives, and SQLite makes it again.

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_int, c_void},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use corten_disk::{FileId, Operation, Seam, Step};
use corten_types::{Error, Result};
use rusqlite::ffi;

/// A VFS that is known to SQLite until this is dropped, which must not be before its last connection is closed.
pub(crate) struct Registered {
    name: String,
    vfs: *mut ffi::sqlite3_vfs,
}

// SAFETY: SQLite uses the structure from any thread, and it is only read after its registration.
unsafe impl Send for Registered {}
// SAFETY: as above.
unsafe impl Sync for Registered {}

/// What the VFS's functions find behind `pAppData`.
struct Context {
    system: *mut ffi::sqlite3_vfs,
    seam: Arc<dyn Seam>,
    // SQLite points into it.
    name: CString,
}

/// What SQLite takes for its file; the system's own follows it in memory.
#[repr(C, align(8))]
struct ScriptedFile {
    base: ffi::sqlite3_file,
    /// Null for a temporary file, which passes beside the seam.
    inner: *mut Inner,
}

struct Inner {
    seam: Arc<dyn Seam>,
    id: FileId,
    path: PathBuf,
    /// The system's VFS syncs the folder together with the first sync of a new log or journal.
    syncs_folder: bool,
}

impl Registered {
    pub(crate) fn register(seam: Arc<dyn Seam>) -> Result<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let name = format!("corten-{}", LAST.fetch_add(1, Ordering::Relaxed));
        let c_name = CString::new(name.clone()).map_err(|_| Error::internal("a name with a zero byte"))?;
        // SAFETY: a null name asks for the default; SQLite initialises itself.
        let system = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        if system.is_null() {
            return Err(Error::internal("SQLite has no default VFS"));
        }
        let context = Box::new(Context { system, seam, name: c_name });
        // SAFETY: the default VFS lives as long as the process; its structure is plain data.
        let mut vfs = unsafe { *system };
        vfs.iVersion = 2;
        vfs.szOsFile += c_int::try_from(size_of::<ScriptedFile>()).expect("a few words");
        vfs.pNext = ptr::null_mut();
        vfs.zName = context.name.as_ptr();
        vfs.pAppData = Box::into_raw(context).cast();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        vfs.xAccess = Some(access);
        vfs.xFullPathname = Some(full_pathname);
        let vfs = Box::into_raw(Box::new(vfs));
        // SAFETY: `vfs` lives until it is unregistered.
        let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
        let registered = Self { name, vfs };
        if code == ffi::SQLITE_OK { Ok(registered) } else { Err(Error::internal("SQLite refused the VFS")) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: both boxes were made by `register`, and no connection uses them any more.
        unsafe {
            ffi::sqlite3_vfs_unregister(self.vfs);
            let vfs = Box::from_raw(self.vfs);
            drop(Box::from_raw(vfs.pAppData.cast::<Context>()));
        }
    }
}

/// The code for an error that the seam asked for; `otherwise` says which operation it was.
fn code_for(error: &io::Error, otherwise: c_int) -> c_int {
    if error.kind() == io::ErrorKind::StorageFull { ffi::SQLITE_FULL } else { otherwise }
}

unsafe fn context<'a>(vfs: *mut ffi::sqlite3_vfs) -> &'a Context {
    // SAFETY: SQLite hands back the structure that was registered, whose `pAppData` is our context.
    unsafe { &*(*vfs).pAppData.cast::<Context>() }
}

unsafe fn path_of<'a>(name: *const c_char) -> &'a Path {
    // SAFETY: SQLite's names end with a zero byte and live as long as the file.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

/// The file of the system's VFS behind ours.
fn system_file(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    file.cast::<ScriptedFile>().wrapping_add(1).cast()
}

unsafe fn inner<'a>(file: *mut ffi::sqlite3_file) -> Option<&'a mut Inner> {
    // SAFETY: SQLite uses a file from one thread at a time, and `inner` lives until it is closed.
    unsafe { (*file.cast::<ScriptedFile>()).inner.as_mut() }
}

unsafe fn methods<'a>(file: *mut ffi::sqlite3_file) -> &'a ffi::sqlite3_io_methods {
    // SAFETY: the system's VFS sets its methods on success of `xOpen`.
    unsafe { &*(*system_file(file)).pMethods }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives `szOsFile` bytes for the file, and names as `path_of` needs them.
    unsafe {
        let context = context(vfs);
        let scripted = file.cast::<ScriptedFile>();
        (*scripted).base.pMethods = ptr::null();
        (*scripted).inner = ptr::null_mut();
        let call = (*context.system).xOpen.expect("every VFS has it");
        if name.is_null() {
            let code = call(context.system, name, system_file(file), flags, out_flags);
            if code == ffi::SQLITE_OK {
                (*scripted).base.pMethods = &raw const METHODS;
            }
            return code;
        }
        let path = path_of(name).to_owned();
        let creates = flags & ffi::SQLITE_OPEN_CREATE != 0 && path.symlink_metadata().is_err();
        let id = FileId::next();
        let operation = if creates {
            Operation::Create { file: id, path: &path, mode: 0o644 }
        } else {
            Operation::Open { file: id, path: &path }
        };
        if let Err(error) = context.seam.before(&operation).into_result() {
            return code_for(&error, ffi::SQLITE_CANTOPEN);
        }
        let code = call(context.system, name, system_file(file), flags, out_flags);
        if code != ffi::SQLITE_OK {
            return code;
        }
        context.seam.after(&operation);
        let journals = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
        let syncs_folder = creates && flags & journals != 0;
        let seam = Arc::clone(&context.seam);
        (*scripted).inner = Box::into_raw(Box::new(Inner { seam, id, path, syncs_folder }));
        (*scripted).base.pMethods = &raw const METHODS;
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: the arguments are SQLite's own.
    unsafe {
        let context = context(vfs);
        let call = (*context.system).xDelete.expect("every VFS has it");
        let path = path_of(name);
        if path.symlink_metadata().is_err() || path.as_os_str().as_bytes().ends_with(b"-shm") {
            return call(context.system, name, sync_folder);
        }
        let operation = Operation::RemoveFile { path };
        if let Err(error) = context.seam.before(&operation).into_result() {
            return code_for(&error, ffi::SQLITE_IOERR_DELETE);
        }
        let code = call(context.system, name, sync_folder);
        if code == ffi::SQLITE_OK {
            context.seam.after(&operation);
            if sync_folder != 0
                && let Some(folder) = path.parent()
            {
                context.seam.after(&Operation::SyncFolder { path: folder });
            }
        }
        code
    }
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    result: *mut c_int,
) -> c_int {
    // SAFETY: the arguments are SQLite's own.
    unsafe {
        let context = context(vfs);
        (*context.system).xAccess.expect("every VFS has it")(context.system, name, flags, result)
    }
}

unsafe extern "C" fn full_pathname(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: the arguments are SQLite's own.
    unsafe {
        let context = context(vfs);
        (*context.system).xFullPathname.expect("every VFS has it")(context.system, name, length, out)
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the file is ours and is not used after this.
    unsafe {
        let code = methods(file).xClose.expect("every file has it")(system_file(file));
        let scripted = file.cast::<ScriptedFile>();
        if !(*scripted).inner.is_null() {
            drop(Box::from_raw((*scripted).inner));
            (*scripted).inner = ptr::null_mut();
        }
        code
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    data: *const c_void,
    length: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: SQLite gives `length` bytes at `data`.
    unsafe {
        let call = methods(file).xWrite.expect("every file has it");
        let Some(inner) = inner(file) else { return call(system_file(file), data, length, offset) };
        let (Ok(bytes), Ok(start)) = (usize::try_from(length), u64::try_from(offset)) else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        let bytes = std::slice::from_raw_parts(data.cast::<u8>(), bytes);
        let operation = |data| Operation::Write { file: inner.id, path: &inner.path, offset: start, data };
        let (allowed, refusal) = match inner.seam.before(&operation(bytes)) {
            Step::Go => (bytes, None),
            Step::Short { bytes: count, error } => (&bytes[..count.min(bytes.len())], Some(error)),
            Step::Fail(error) => return code_for(&error, ffi::SQLITE_IOERR_WRITE),
            _ => return ffi::SQLITE_IOERR_WRITE,
        };
        let count = c_int::try_from(allowed.len()).expect("it was an int above");
        let code = if count == 0 { ffi::SQLITE_OK } else { call(system_file(file), data, count, offset) };
        if code == ffi::SQLITE_OK {
            inner.seam.after(&operation(allowed));
        }
        match refusal {
            Some(error) => code_for(&error, ffi::SQLITE_IOERR_WRITE),
            None => code,
        }
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    // SAFETY: the file is ours.
    unsafe {
        let call = methods(file).xTruncate.expect("every file has it");
        let Some(inner) = inner(file) else { return call(system_file(file), length) };
        let Ok(bytes) = u64::try_from(length) else { return ffi::SQLITE_IOERR_TRUNCATE };
        let operation = Operation::SetLength { file: inner.id, path: &inner.path, length: bytes };
        if let Err(error) = inner.seam.before(&operation).into_result() {
            return code_for(&error, ffi::SQLITE_IOERR_TRUNCATE);
        }
        let code = call(system_file(file), length);
        if code == ffi::SQLITE_OK {
            inner.seam.after(&operation);
        }
        code
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the file is ours.
    unsafe {
        let call = methods(file).xSync.expect("every file has it");
        let Some(inner) = inner(file) else { return call(system_file(file), flags) };
        let operation = if flags & ffi::SQLITE_SYNC_DATAONLY != 0 {
            Operation::SyncData { file: inner.id, path: &inner.path }
        } else {
            Operation::SyncAll { file: inner.id, path: &inner.path }
        };
        if let Err(error) = inner.seam.before(&operation).into_result() {
            return code_for(&error, ffi::SQLITE_IOERR_FSYNC);
        }
        let code = call(system_file(file), flags);
        if code == ffi::SQLITE_OK {
            inner.seam.after(&operation);
            if inner.syncs_folder
                && let Some(folder) = inner.path.parent()
            {
                inner.seam.after(&Operation::SyncFolder { path: folder });
                inner.syncs_folder = false;
            }
        }
        code
    }
}

/// Functions that hand their arguments to the system's file.
macro_rules! pass_on {
    ($($name:ident => $method:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $argument: $type)*) $(-> $result)? {
                // SAFETY: the file is ours and the arguments are SQLite's own.
                unsafe {
                    methods(file).$method.expect("the system's files have it")(system_file(file) $(, $argument)*)
                }
            }
        )*
    };
}

pass_on! {
    read => xRead(buffer: *mut c_void, length: c_int, offset: i64) -> c_int;
    file_size => xFileSize(size: *mut i64) -> c_int;
    lock => xLock(level: c_int) -> c_int;
    unlock => xUnlock(level: c_int) -> c_int;
    check_reserved_lock => xCheckReservedLock(result: *mut c_int) -> c_int;
    file_control => xFileControl(operation: c_int, argument: *mut c_void) -> c_int;
    sector_size => xSectorSize() -> c_int;
    device_characteristics => xDeviceCharacteristics() -> c_int;
    shm_map => xShmMap(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) -> c_int;
    shm_lock => xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier => xShmBarrier();
    shm_unmap => xShmUnmap(remove: c_int) -> c_int;
}
