//! `format/`: templates that name what was mounted before.
//!
//! The templates are those of Go as far as they make sense here: `{{ mount 0 }}`, `{{ source 0 }}`, `{{ target 0 }}` and
//! `{{ overlay 0 3 }}`, with the trim markers `{{-` and `-}}`.

use corten_types::{Error, Mount, Result};

use crate::record::ActiveMount;

pub(super) fn apply(mut mount: Mount, earlier: &[ActiveMount]) -> Result<Mount> {
    let texts = [&mut mount.source, &mut mount.target].into_iter().chain(&mut mount.options);
    for text in texts.filter(|text| text.contains("{{")) {
        *text = filled(text, earlier)?;
    }
    Ok(mount)
}

fn filled(template: &str, earlier: &[ActiveMount]) -> Result<String> {
    let mut result = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((action, tail)) = after.split_once("}}") else {
            return Err(Error::invalid_argument(format!("template {template:?} has {{{{ without }}}}")));
        };
        let (action, trims_before) = match action.strip_prefix('-') {
            Some(action) if action.starts_with(char::is_whitespace) => (action, true),
            _ => (action, false),
        };
        let (action, trims_after) = match action.strip_suffix('-') {
            Some(action) if action.ends_with(char::is_whitespace) => (action, true),
            _ => (action, false),
        };
        result.push_str(if trims_before { before.trim_end() } else { before });
        result.push_str(&value(action, template, earlier)?);
        rest = if trims_after { tail.trim_start() } else { tail };
    }
    result.push_str(rest);
    Ok(result)
}

/// What an action stands for.
fn value(action: &str, template: &str, earlier: &[ActiveMount]) -> Result<String> {
    let unknown = || {
        Error::invalid_argument(format!(
            "template {template:?}: {{{{{action}}}}} is none of source N, target N, mount N, overlay N M"
        ))
    };
    let of = |text: &str| -> Result<(usize, &ActiveMount)> {
        let index: i64 = text.parse().map_err(|_| unknown())?;
        let found = usize::try_from(index).ok().and_then(|index| Some((index, earlier.get(index)?)));
        found.ok_or_else(|| {
            let count = earlier.len();
            Error::invalid_argument(format!(
                "template {template:?} names mount {index}, but {count} were mounted before it"
            ))
        })
    };
    let words: Vec<&str> = action.split_whitespace().collect();
    Ok(match words[..] {
        ["source", index] => of(index)?.1.mount.source.clone(),
        ["target", index] => of(index)?.1.mount.target.clone(),
        ["mount", index] => of(index)?.1.mount_point.clone(),
        ["overlay", first, last] => {
            let (first, last) = (of(first)?.0, of(last)?.0);
            let points = earlier[first.min(last)..=first.max(last)].iter().map(|m| m.mount_point.as_str());
            let points: Vec<&str> = if first > last { points.rev().collect() } else { points.collect() };
            points.join(":")
        }
        _ => return Err(unknown()),
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::UNIX_EPOCH};

    use corten_types::ErrorKind;

    use super::*;

    fn earlier() -> Vec<ActiveMount> {
        let active = |number: usize| ActiveMount {
            mount: Mount { source: format!("/s{number}"), target: format!("t{number}"), ..Mount::default() },
            mounted_at: UNIX_EPOCH,
            mount_point: format!("/m{number}"),
            data: BTreeMap::new(),
        };
        (0..3).map(active).collect()
    }

    #[test]
    fn templates_name_sources_targets_mount_points_and_ranges() {
        for (template, expected) in [
            ("plain", "plain"),
            ("{{ mount 0 }}", "/m0"),
            ("{{mount 2}}/upper", "/m2/upper"),
            ("upperdir={{ mount 0 }}/u:{{ source 1 }}", "upperdir=/m0/u:/s1"),
            ("{{ target 1 }}", "t1"),
            ("lowerdir={{ overlay 0 2 }}", "lowerdir=/m0:/m1:/m2"),
            ("lowerdir={{ overlay 2 0 }}", "lowerdir=/m2:/m1:/m0"),
            ("{{ overlay 1 1 }}", "/m1"),
            ("a {{- mount 0 -}} b", "a/m0b"),
            ("}} {{ mount 0 }}", "}} /m0"),
        ] {
            assert_eq!(filled(template, &earlier()).expect(template), expected);
        }
    }

    #[test]
    fn malformed_templates_and_mounts_that_are_not_there_are_refused() {
        for template in [
            "{{ mount 0",
            "{{ mount }}",
            "{{ mount 3 }}",
            "{{ mount -1 }}",
            "{{ mount x }}",
            "{{ overlay 0 }}",
            "{{ overlay 0 3 }}",
            "{{ overlay 3 0 }}",
            "{{ overlay -1 0 }}",
            "{{ other 0 }}",
            "{{}}",
            "{{ mount 0 1 }}",
        ] {
            let error = filled(template, &earlier()).expect_err(template);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{template}");
        }
    }

    #[test]
    fn source_target_and_options_are_filled() {
        let mount = Mount {
            kind: "overlay".to_owned(),
            source: "{{ source 0 }}".to_owned(),
            target: "{{ target 0 }}".to_owned(),
            options: vec!["ro".to_owned(), "lowerdir={{ mount 0 }}".to_owned()],
        };
        let filled = apply(mount, &earlier()).expect("every template is right");
        assert_eq!((filled.source.as_str(), filled.target.as_str()), ("/s0", "t0"));
        assert_eq!(filled.options, ["ro", "lowerdir=/m0"]);
    }
}
