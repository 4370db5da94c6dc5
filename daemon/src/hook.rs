//! `oci-hook`: run a program with facts about the container in its arguments (rows H80 and DM09).

use std::{io::Read, os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Context, bail};
use serde_json::Value;

/// How much of the state is read, in bytes. It is a short JSON object.
const STATE_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// Reads the container's state from standard input and becomes the program. Returns only if that fails.
///
/// # Errors
/// If the state is no JSON object, an argument has an unknown template, or the program cannot be started.
pub fn run(command: &[String]) -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin()
        .take(STATE_LIMIT_BYTES)
        .read_to_string(&mut text)
        .context("read the container's state")?;
    let state: Value = serde_json::from_str(&text).context("the container's state is no JSON")?;
    let arguments = command.iter().map(|word| expand(word, &state)).collect::<anyhow::Result<Vec<_>>>()?;
    let (program, rest) = arguments.split_first().context("no program is given")?;
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("run the hook {program}"))
}

/// Replaces every `{{...}}` in `word`.
fn expand(word: &str, state: &Value) -> anyhow::Result<String> {
    let mut result = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("{{") {
        let (template, tail) =
            after.split_once("}}").with_context(|| format!("argument {word:?} has {{{{ without }}}}"))?;
        result.push_str(before);
        result.push_str(&value(template.trim(), state)?);
        rest = tail;
    }
    result.push_str(rest);
    Ok(result)
}

fn value(template: &str, state: &Value) -> anyhow::Result<String> {
    let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
    Ok(match template {
        "id" | "bundle" | "status" => text(template),
        "pid" => state["pid"].as_i64().unwrap_or_default().to_string(),
        "rootfs" => rootfs(Path::new(&text("bundle")))?,
        other => {
            let Some(key) = other.strip_prefix("annotation") else {
                bail!(
                    "unknown template {{{{{other}}}}}; use id, pid, bundle, rootfs, status or annotation \"key\""
                );
            };
            let key = key.trim().trim_matches('"');
            state["annotations"][key].as_str().unwrap_or_default().to_owned()
        }
    })
}

/// The root filesystem that the bundle's specification names, absolute.
fn rootfs(bundle: &Path) -> anyhow::Result<String> {
    let file = bundle.join("config.json");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let specification: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    let path = specification["root"]["path"].as_str().unwrap_or("rootfs");
    Ok(bundle.join(path).display().to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_replaced_by_facts() {
        let state = json!({ "id": "c1", "pid": 42, "bundle": "/b", "status": "created",
            "annotations": { "colour": "red" } });
        let cases = [
            ("plain", "plain"),
            ("{{id}}-{{ pid }}", "c1-42"),
            ("{{annotation \"colour\"}}", "red"),
            ("{{annotation \"none\"}}", ""),
            ("{{status}}@{{bundle}}", "created@/b"),
        ];
        for (word, expected) in cases {
            assert_eq!(expand(word, &state).expect("a known template"), expected);
        }
        assert!(expand("{{open", &state).is_err());
        assert!(expand("{{unknown}}", &state).expect_err("unknown").to_string().contains("unknown"));
    }

    #[test]
    fn the_root_filesystem_is_read_from_the_bundle() {
        let bundle = tempfile::tempdir().expect("a scratch folder");
        let mut file = std::fs::File::create(bundle.path().join("config.json")).expect("a file");
        std::io::Write::write_all(&mut file, br#"{"root":{"path":"tree"}}"#).expect("written");
        assert_eq!(
            rootfs(bundle.path()).expect("readable"),
            bundle.path().join("tree").display().to_string()
        );
    }
}
