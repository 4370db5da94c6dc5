//! `mkdir/`: folders that a mount needs, `X-containerd.mkdir.path=<dir>[:<mode>[:<uid>:<gid>]]`.

use corten_types::{Error, Mount, Result};
use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Uid},
    io::Errno,
};

use crate::roots::{Place, Roots};

const PREFIX: &str = "X-containerd.mkdir.";
const DEFAULT_MODE: u32 = 0o700;

/// What one option asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    path: &'a str,
    mode: Option<u32>,
    owner: Option<(u32, u32)>,
}

pub(super) fn apply(mut mount: Mount, roots: &Roots) -> Result<Mount> {
    let (ours, others): (Vec<String>, Vec<String>) =
        std::mem::take(&mut mount.options).into_iter().partition(|option| option.starts_with(PREFIX));
    for option in ours {
        let wanted = wanted(&option)?;
        make(&roots.place(wanted.path, "mkdir")?, &wanted)?;
    }
    mount.options = others;
    Ok(mount)
}

fn wanted(option: &str) -> Result<Wanted<'_>> {
    let wrong = || {
        Error::invalid_argument(format!("mount option {option:?} is not {PREFIX}path=DIR[:MODE[:UID:GID]]"))
    };
    let value = option.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix("path=")).ok_or_else(wrong)?;
    let mode = |text: &str| {
        let mode = u32::from_str_radix(text, 8).map_err(|_| wrong())?;
        if mode > 0o777 { Err(wrong()) } else { Ok(mode) }
    };
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX).ok_or_else(wrong);
    let parts: Vec<&str> = value.split(':').collect();
    Ok(match parts[..] {
        [path] => Wanted { path, mode: None, owner: None },
        [path, bits] => Wanted { path, mode: Some(mode(bits)?), owner: None },
        [path, bits, uid, gid] => Wanted { path, mode: Some(mode(bits)?), owner: Some((id(uid)?, id(gid)?)) },
        _ => return Err(wrong()),
    })
}

/// Makes the folder, or gives one that is there the mode and the owner that are asked for.
fn make(place: &Place<'_>, wanted: &Wanted<'_>) -> Result<()> {
    let cannot = |error: Errno| Error::io(format!("cannot make the folder {}", wanted.path), error.into());
    let made = match rustix::fs::mkdirat(&place.folder, place.name, Mode::from_raw_mode(DEFAULT_MODE)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(cannot(error)),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(&place.folder, place.name, flags, Mode::empty()).map_err(cannot)?;
    if let Some((uid, gid)) = wanted.owner {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&folder, "", uid, gid, AtFlags::EMPTY_PATH).map_err(cannot)?;
    }
    // After the owner, and whatever the umask says.
    if let Some(mode) = wanted.mode.or(made.then_some(DEFAULT_MODE)) {
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode)).map_err(cannot)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_give_path_mode_and_owner() {
        let path = "/a/b";
        for (value, mode, owner) in
            [("/a/b", None, None), ("/a/b:0755", Some(0o755), None), ("/a/b:1:2:3", Some(1), Some((2, 3)))]
        {
            let option = format!("{PREFIX}path={value}");
            assert_eq!(wanted(&option).expect(value), Wanted { path, mode, owner });
        }
    }

    #[test]
    fn malformed_options_are_refused() {
        for rest in
            ["path", "mode=1", "path=/a:8", "path=/a:1777", "path=/a:1:2", "path=/a:1:x:2", "path=/a:1:2:3:4"]
        {
            assert!(wanted(&format!("{PREFIX}{rest}")).is_err(), "{rest}");
        }
    }
}
