//! `mkfs/`: an image that a mount needs, made once: `X-containerd.mkfs.{size,fs,uuid}`.

use std::{
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use corten_disk::Disk;
use corten_types::{Error, Mount, Result};
use rustix::{fs::AtFlags, io::Errno};

use crate::roots::{Place, Roots};

const PREFIX: &str = "X-containerd.mkfs.";

/// The kinds of filesystem that can be made.
const KINDS: [&str; 4] = ["ext2", "ext3", "ext4", "xfs"];

/// Who may read an image: it has a container's files.
const MODE: u32 = 0o640;

/// What the options ask for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    size_bytes: u64,
    kind: String,
    uuid: Option<String>,
}

pub(super) fn apply(mut mount: Mount, roots: &Roots, disk: &Disk) -> Result<Mount> {
    let place = roots.place(&mount.source, "mkfs")?;
    let (ours, others): (Vec<String>, Vec<String>) =
        std::mem::take(&mut mount.options).into_iter().partition(|option| option.starts_with(PREFIX));
    let wanted = wanted(&ours)?;
    mount.options = others;
    make(&place, &wanted, disk).map_err(|error| {
        Error::new(error.kind(), format!("cannot make {}", mount.source)).with_source(error)
    })?;
    Ok(mount)
}

fn wanted(options: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted { size_bytes: 0, kind: "ext4".to_owned(), uuid: None };
    for option in options {
        let wrong = |why: &str| Error::invalid_argument(format!("mount option {option:?}: {why}"));
        let rest = option.strip_prefix(PREFIX).unwrap_or_default();
        let (key, value) = rest.split_once('=').ok_or_else(|| wrong("it has no value"))?;
        match key {
            "size" => {
                wanted.size_bytes = parse_size(value)
                    .ok_or_else(|| wrong("the size is no number with a unit, like 100MiB"))?;
            }
            "fs" if KINDS.contains(&value) => value.clone_into(&mut wanted.kind),
            "fs" => return Err(wrong(&format!("the filesystem is none of {}", KINDS.join(", ")))),
            "uuid" if value.starts_with('-') || value.is_empty() => return Err(wrong("that is no uuid")),
            "uuid" => wanted.uuid = Some(value.to_owned()),
            _ => return Err(wrong("nobody knows it")),
        }
    }
    if wanted.size_bytes == 0 {
        return Err(Error::invalid_argument(format!("mkfs needs the mount option {PREFIX}size")));
    }
    Ok(wanted)
}

/// `100`, `1.5GiB`, `20 MB`, `5k`: units are powers of 1024 whatever they are called.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok().filter(|number: &f64| number.is_finite())?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 0,
        "k" | "ki" => 1,
        "m" | "mi" => 2,
        "g" | "gi" => 3,
        "t" | "ti" => 4,
        "p" | "pi" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(power);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was compared with what fits"
    )]
    (bytes < i64::MAX as f64).then_some(bytes as u64)
}

/// Makes the image if it is not there. It gets its name when it is whole, so that one that is there can be used.
fn make(place: &Place<'_>, wanted: &Wanted, disk: &Disk) -> Result<()> {
    // Somebody else who makes the same image has the same temporary name: one at a time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match rustix::fs::statat(&place.folder, place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(Error::io("cannot look for it", error.into())),
    }
    let mut name = OsString::from(".mkfs-");
    name.push(place.name);
    let finished = place.path();
    let unfinished = finished.with_file_name(&name);
    let cannot = |what: &'static str| move |error| Error::io(what, error);
    match disk.remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("cannot remove what a crash left of it", error));
        }
        _ => {}
    }
    let format = || -> Result<()> {
        let mut file = disk.create_new(&unfinished, MODE).map_err(cannot("cannot create a file"))?;
        file.set_length(wanted.size_bytes).map_err(cannot("cannot give it its size"))?;
        run(wanted, &unfinished)?;
        file.sync_all().map_err(cannot("cannot sync it"))?;
        disk.rename(&unfinished, &finished).map_err(cannot("cannot give it its name"))?;
        let folder = finished.parent().unwrap_or(Path::new("/"));
        disk.sync_folder(folder).map_err(cannot("cannot sync its folder"))
    };
    format().inspect_err(|_| {
        // The first error is the one worth telling; a leftover is removed by the next attempt.
        drop(disk.remove_file(&unfinished));
    })
}

fn run(wanted: &Wanted, file: &Path) -> Result<()> {
    let program = format!("mkfs.{}", wanted.kind);
    let mut command = Command::new(&program);
    command.arg("-q");
    match (&wanted.uuid, wanted.kind.as_str()) {
        (None, _) => {}
        (Some(uuid), "xfs") => drop(command.arg("-m").arg(format!("uuid={uuid}"))),
        (Some(uuid), _) => drop(command.arg("-U").arg(uuid)),
    }
    let output = match command.arg(file).stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("{program} is not installed; install the package that has it");
            return Err(Error::failed_precondition(message));
        }
        Err(error) => return Err(Error::io(format!("cannot run {program}"), error)),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::unknown(format!("{program}: {}: {said}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_that_are_powers_of_1024() {
        for (text, expected) in [
            ("1024", 1024),
            ("10b", 10),
            ("5k", 5 << 10),
            ("5KB", 5 << 10),
            ("100MiB", 100 << 20),
            ("1.5 GiB", 3 << 29),
            ("1t", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Some(expected), "{text}");
        }
        for text in ["", "x", "-1", "1x", "1  k", "1.2.3", "1e9", "9999999P", "MiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn options_say_size_kind_and_uuid() {
        let of =
            |rests: &[&str]| wanted(&rests.iter().map(|rest| format!("{PREFIX}{rest}")).collect::<Vec<_>>());
        let expected = Wanted { size_bytes: 1 << 20, kind: "xfs".to_owned(), uuid: Some("u".to_owned()) };
        assert_eq!(of(&["size=1MiB", "fs=xfs", "uuid=u"]).expect("all are right"), expected);
        assert_eq!(of(&["size=1MiB"]).expect("the rest has defaults").kind, "ext4");
        for wrong in [&["fs=ext4"][..], &["size=0"], &["size"], &["size=1", "fs=btrfs"], &["size=1", "x=y"]] {
            assert_eq!(of(wrong).expect_err("wrong").kind(), corten_types::ErrorKind::InvalidArgument);
        }
    }
}
