//! Layers for each odd case.

use corten_diff::archive::{EntryKind, Header, Writer};

use crate::{Case, REFUSED};

/// An archive of entries, in words: `path` alone is a file that holds its own path, `path/` a directory, `path -> target` a
/// link, `path = target` a hard link, `path |` a pipe, `path c` a device. `mode:uid@` may come before.
fn layer(entries: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (number, entry) in entries.iter().enumerate() {
        let (attributes, text) = entry.split_once('@').unwrap_or(("", entry));
        let (mode, uid) = attributes.split_once(':').unwrap_or(("644", "0"));
        let mut header = Header::new(EntryKind::File, "");
        if let Some((path, target)) = text.split_once(" -> ") {
            header = Header { link: target.into(), ..Header::new(EntryKind::Symlink, path) };
        } else if let Some((path, target)) = text.split_once(" = ") {
            header = Header { link: target.into(), ..Header::new(EntryKind::HardLink, path) };
        } else if let Some(path) = text.strip_suffix(" |") {
            header = Header::new(EntryKind::Fifo, path);
        } else if let Some(path) = text.strip_suffix(" c") {
            header = Header { device: (1, 5), ..Header::new(EntryKind::CharacterDevice, path) };
        } else if text.ends_with('/') {
            header = Header::new(EntryKind::Directory, text);
        } else {
            header.path = text.into();
        }
        let is_file = header.kind == EntryKind::File && !text.contains(".wh.");
        let contents = if is_file { text.as_bytes() } else { b"" };
        header.mode = u32::from_str_radix(mode, 8).unwrap();
        header.uid = uid.parse().unwrap();
        header.modified_seconds = 1_000_000_000 + i64::try_from(number).unwrap();
        header.size_bytes = contents.len() as u64;
        writer.write_header(&header).unwrap();
        writer.write_contents(contents).unwrap();
    }
    writer.finish().unwrap()
}

fn case(name: &str, layers: &[&[&str]]) -> Case {
    Case::new(name, layers.iter().map(|entries| layer(entries)).collect())
}

const BASE: &[&str] = &[
    "755:0@a/",
    "755:3@a/b/",
    "640:4@a/b/f",
    "a/b/g",
    "4755:5@a/tool",
    "a/link -> b",
    "700:6@c/",
    "c/one",
    "c/two",
    "e/",
    "e/f/",
    "e/f/g/",
    "e/f/g/h",
    "top",
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("base", &[BASE]),
        case("names", &[&["/abs", "./dot/", "./dot/./f", "x/../y", "../../up", "dot//twice", "755:0@./"]]),
        case("missing-parents", &[&["p/q/r/f", "l -> p", "l/s/f", "dangle -> n/m", "dangle/f"]]),
        case(
            "links-within",
            &[&["d/", "d/up -> ..", "d/up/f", "abs -> /d", "abs/g", "self -> .", "self/self/h"]],
        ),
        case(
            "types-replaced",
            &[&["x", "y -> x", "y", "z |", "z c", "z", "d/", "d/f", "w", "w -> d", "v c", "v |"]],
        ),
        case(
            "hard-links",
            &[&["f", "4711:9@g = f", "s -> f", "h = s", "d/", "d/i = g", "f", "j = ./d/i", "k = /g"]],
        ),
        case(
            "special-modes",
            &[&["6755:7@s", "2755:7@d/", "d/f", "d/e/", "1777:0@t/", "0:0@n", "2070:8@p/", "p/q"]],
        ),
        case("duplicates", &[&["f", "600:1@f", "d/", "700:2@d/", "d/f", "755:3@d/"]]),
        case("parent-is-a-file", &[&["f", "f/g"]]).refused(),
        case("link-to-nothing", &[&["h = nowhere"]]).refused(),
        case("link-in-a-circle", &[&["a -> b", "b -> a", "a/f"]]).refused(),
        case("whiteout-of-dots", &[&["d/", "d/.wh..."]]).refused(),
        case(
            "whiteouts",
            &[BASE, &["a/", "a/b/", "a/b/.wh.f", "c/", "c/.wh.one", "5:5@.wh.top", "e/", "e/.wh.f"]],
        ),
        case("whiteout-of-a-link", &[BASE, &["a/", "a/.wh.link"]]),
        case(
            "opaque",
            &[BASE, &["700:6@c/", "c/.wh..wh..opq", "c/new", "e/", "e/f/", "e/f/.wh..wh..opq", "e/f/x"]],
        ),
        case("opaque-after", &[BASE, &["c/", "c/new", "c/sub/", "c/sub/f", "c/.wh..wh..opq"]]),
        case("opaque-everything", &[BASE, &[".wh..wh..opq", "new"]]),
        case("changed", &[BASE, &["711:8@a/", "a/b/", "600:9@a/b/f", "a/link", "c", "top/", "top/in"]]),
        case(
            "three",
            &[BASE, &["a/", "a/.wh.b", "c/", "c/.wh.one"], &["a/", "a/b/", "a/b/new", "c/", "c/one"]],
        ),
        case(
            "deleted-and-made",
            &[BASE, &["c/", "c/.wh.one", "c/one", ".wh.top", "top -> c", "e/", "e/.wh.f", "e/f"]],
        ),
        case("nothing-to-hide", &[BASE, &["a/", "a/.wh.none", ".wh.none"]]),
    ];
    cases.extend(deviations());
    cases
}

/// What differs on purpose. SHORTCOMINGS.md lists the same.
fn deviations() -> Vec<Case> {
    const REPLACED: &str = "the time of a folder that was replaced is forgotten; containerd fails to set it";
    const TIMES: &str = "times copied from below survive what is put into the directory";
    const AGAIN: &str =
        "a whiteout of what its own layer has removes that, as on native; containerd refuses the layer";
    const SPARED: &str = "files of the layer are spared, also in directories without an entry";
    vec![
        case("directory-replaced", &[&["d/", "d/e/", "d/e/f", "d", "k/", "k/l", "k -> d"]])
            .but("overlayfs", &[REFUSED], REPLACED)
            .but("native", &[REFUSED], REPLACED),
        case("link-into-lower", &[BASE, &["640:4@a/", "a/new = a/b/f"]]).but(
            "overlayfs",
            &[REFUSED],
            "a hard link to a file of a layer below copies it up; containerd finds no file",
        ),
        case("whiteout-in-a-new-directory", &[BASE, &["new/", "new/.wh.f", "new/g"]]).but(
            "overlayfs",
            &["new/f"],
            "overlayfs would list a whiteout with nothing below it",
        ),
        case(
            "markers-twice",
            &[BASE, &["c/", ".wh.top", ".wh.top", "c/.wh..wh..opq", "c/.wh..wh..opq", "c/n"]],
        )
        .but("overlayfs", &[REFUSED], AGAIN),
        case("made-and-deleted", &[BASE, &["c/", "c/n", "c/.wh.n", "a/", "a/b/", "a/b/f", "a/b/.wh.f"]]).but(
            "overlayfs",
            &[REFUSED],
            AGAIN,
        ),
        case("through-a-link-below", &[BASE, &["a/", "a/link/new", "way -> a/b", "way/x"]]).but(
            "overlayfs",
            &["a/b", "a/link"],
            TIMES,
        ),
        case("parents-of-lower", &[BASE, &["a/b/new", "e/f/g/new"]]).but(
            "overlayfs",
            &["a", "a/b", "e", "e/f", "e/f/g"],
            TIMES,
        ),
        case("directory-for-a-whiteout", &[BASE, &[".wh.c", "700:6@c/", "c/new"]]).but(
            "overlayfs",
            &["c"],
            "the directory must hide what the whiteout hid",
        ),
        case("opaque-spares-implied", &[BASE, &["c/sub/f", "c/.wh..wh..opq"]])
            .but("native", &["c/sub", "c/sub/f"], SPARED)
            .but("overlayfs", &["c"], TIMES),
    ]
}
