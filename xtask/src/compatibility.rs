//! `cargo xtask compatibility`: writes `docs/compatibility.md` from the end-to-end tests as they ran just now, on
//! Corten and on Debian's containerd.

use std::{collections::BTreeMap, fmt::Write as _, fs::File, io::Write as _};

use anyhow::{Context, ensure};

use crate::{
    build, machine,
    process::{self, cargo, step, workspace},
};

/// Tests that ask for what only one of the two does; they are no comparison.
const OURS_ALONE: [&str; 5] = [
    "peers::",
    "refusals::a_second_daemon",
    "refusals::a_configuration",
    "crash::a_shim_that_is_killed",
    "metadata::version_and_plugins",
];

/// Runs the tests on both and writes the table.
pub(crate) fn run() -> anyhow::Result<()> {
    machine::require_root("the comparison with containerd")?;
    step("packages", || {
        machine::ensure(machine::DEMO)?;
        machine::ensure(machine::TEST)
    })?;
    let programs = step("build the daemon and the shim", || build::all(build::Profile::Dev))?;
    let ours = step("tests on Corten", || results(&programs, ""))?;
    let theirs = step("tests on containerd", || results(&programs, "containerd"))?;
    let client = process::output(std::process::Command::new("ctr").arg("--version"))?;
    let text = render(&client, &ours, &theirs);
    File::create(workspace().join("docs/compatibility.md"))?.write_all(text.as_bytes())?;
    ensure!(ours.values().all(|passed| *passed), "some tests failed on Corten; the table says which");
    Ok(())
}

fn results(programs: &build::Programs, peer: &str) -> anyhow::Result<BTreeMap<String, bool>> {
    let output = cargo(&["test", "--quiet", "-p", "corten-tests", "--test", "e2e", "--no-fail-fast"])
        .args(["--", "--format", "pretty", "--test-threads", "2"])
        .env("CORTEN_TEST_ROOT", "1")
        .env("CORTEN_TEST_DAEMON", &programs.daemon)
        .env("CORTEN_TEST_SHIM", &programs.shim)
        .env("CORTEN_TEST_PEER", peer)
        .output()
        .context("run the end-to-end tests")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let results: BTreeMap<String, bool> = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .map(|(name, result)| (name.to_owned(), result.trim() == "ok"))
        .collect();
    ensure!(!results.is_empty(), "no test ran: {}", String::from_utf8_lossy(&output.stderr));
    Ok(results)
}

fn render(client: &str, ours: &BTreeMap<String, bool>, theirs: &BTreeMap<String, bool>) -> String {
    let mut text = format!(
        "# Compatibility\n\nWritten by `cargo xtask compatibility` from the end-to-end tests, which drive real programs. Client: \
         {}. A dash: the test asks for what only Corten promises.\n\n| what is done | Corten | containerd |\n|---|---|---|\n",
        client.trim()
    );
    let word = |passed: Option<&bool>| match passed {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    for (name, passed) in ours {
        let alone = OURS_ALONE.iter().any(|prefix| name.starts_with(prefix));
        let other = if alone { None } else { theirs.get(name) };
        let (topic, sentence) = name.rsplit_once("::").unwrap_or(("", name));
        writeln!(
            text,
            "| {topic}: {} | {} | {} |",
            sentence.replace('_', " "),
            word(Some(passed)),
            word(other)
        )
        .expect("writing to a string cannot fail");
    }
    text
}
