//! PAX extended headers.

use super::Time;

/// The most bytes that one extended header, long name or sparse map may have.
pub const MAX_EXTENSION_BYTES: usize = 1 << 20;

/// How many extended attributes a file may have: the kernel lists no more names than fit into 64 KiB.
const MAX_XATTRS: usize = 2048;

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// What an extended header says about the next entry. An empty value takes nothing back from the header, as in Go.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
    pub(crate) size: Option<i64>,
    pub(crate) modified: Option<Time>,
    pub(crate) accessed: Option<Time>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: SparseRecords,
}

/// The records of GNU's sparse files in PAX archives, in versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(crate) struct SparseRecords {
    pub(crate) major: Vec<u8>,
    pub(crate) minor: Vec<u8>,
    pub(crate) name: Vec<u8>,
    pub(crate) size: Option<i64>,
    pub(crate) real_size: Option<i64>,
    pub(crate) blocks: Option<i64>,
    /// Offsets and lengths, one after the other.
    pub(crate) map: Vec<i64>,
}

/// Reads all records, or says which rule is broken.
pub(crate) fn parse(mut data: &[u8]) -> Result<Extensions, &'static str> {
    let mut extensions = Extensions::default();
    let mut pairs: Vec<i64> = Vec::new();
    while !data.is_empty() {
        let (key, value, rest) = record(data).ok_or("a PAX record is broken")?;
        data = rest;
        match key {
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let wants_offset = pairs.len().is_multiple_of(2);
                if wants_offset != (key == b"GNU.sparse.offset") {
                    return Err("the PAX sparse map is out of order");
                }
                pairs.push(decimal(value).ok_or("the PAX sparse map has no number")?);
            }
            _ => apply(&mut extensions, key, value)?,
        }
    }
    if !pairs.is_empty() {
        extensions.sparse.map = pairs;
    }
    Ok(extensions)
}

fn apply(extensions: &mut Extensions, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
        // The last of several values counts.
        extensions.xattrs.retain(|(known, _)| known != name);
        if extensions.xattrs.len() == MAX_XATTRS {
            return Err("a file has more than 2048 extended attributes");
        }
        extensions.xattrs.push((name.to_vec(), value.to_vec()));
        return Ok(());
    }
    if value.is_empty() {
        return Ok(());
    }
    let number = || decimal(value).ok_or("a PAX number is broken");
    let moment = || time(value).ok_or("a PAX time is broken");
    match key {
        b"path" => extensions.path = Some(value.to_vec()),
        b"linkpath" => extensions.link = Some(value.to_vec()),
        b"uid" => extensions.uid = Some(number()?),
        b"gid" => extensions.gid = Some(number()?),
        b"size" => extensions.size = Some(number()?),
        b"mtime" => extensions.modified = Some(moment()?),
        b"atime" => extensions.accessed = Some(moment()?),
        b"GNU.sparse.major" => extensions.sparse.major = value.to_vec(),
        b"GNU.sparse.minor" => extensions.sparse.minor = value.to_vec(),
        b"GNU.sparse.name" => extensions.sparse.name = value.to_vec(),
        b"GNU.sparse.size" => extensions.sparse.size = Some(number()?),
        b"GNU.sparse.realsize" => extensions.sparse.real_size = Some(number()?),
        b"GNU.sparse.numblocks" => extensions.sparse.blocks = Some(number()?),
        b"GNU.sparse.map" => {
            extensions.sparse.map = value
                .split(|byte| *byte == b',')
                .map(|number| decimal(number).ok_or("the PAX sparse map has no number"))
                .collect::<Result<_, _>>()?;
        }
        _ => {}
    }
    Ok(())
}

/// Splits the first record off: `length key=value\n`, where the length counts itself. NULs are allowed only in values,
/// and not in those that are names.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    if length > data.len() || length <= space + 2 || data[length - 1] != b'\n' {
        return None;
    }
    let body = &data[space + 1..length - 1];
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    let is_name = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
    let has_nul = if is_name { value.contains(&0) } else { key.contains(&0) };
    if key.is_empty() || has_nul { None } else { Some((key, value, &data[length..])) }
}

pub(crate) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with an optional sign and fraction; digits after the ninth are dropped.
pub(crate) fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut nanoseconds = 0_u32;
    for place in 0..9 {
        let digit = fraction.as_bytes().get(place).map_or(0, |byte| byte - b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    if whole.starts_with('-') && nanoseconds > 0 {
        // -1.5 is half a second after -2.
        return Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Some(Time { seconds, nanoseconds })
}
