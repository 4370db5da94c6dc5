//! `cargo xtask soak`: crashes, damages and races as many as one has time for.

use std::{
    fs::File,
    path::Path,
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail, ensure};

use crate::{
    build, machine,
    process::{self, cargo, step, workspace},
};

/// How many lines of a failed test are shown.
const SHOWN_LINES: usize = 40;

/// What can be done many times, and the test that does it.
struct Kind {
    option: &'static str,
    /// Says the test how often.
    variable: &'static str,
    /// How often, if nothing is said.
    count: u64,
    package: &'static str,
    target: &'static str,
    test: &'static str,
}

const KINDS: [Kind; 5] = [
    Kind {
        option: "--kills",
        variable: "CORTEN_TEST_KILLS",
        count: 500,
        package: "corten-tests",
        target: "crashes",
        test: "what_was_acknowledged_is_whole_after_a_kill",
    },
    Kind {
        option: "--cuts",
        variable: "CORTEN_TEST_CUTS",
        count: 300,
        package: "corten-tests",
        target: "crashes",
        test: "what_was_acknowledged_is_whole_after_a_power_cut",
    },
    Kind {
        option: "--damages",
        variable: "CORTEN_TEST_DAMAGES",
        count: 1000,
        package: "corten-fsck",
        target: "it",
        test: "random::",
    },
    Kind {
        option: "--races",
        variable: "CORTEN_TEST_RACES",
        count: 20_000,
        package: "corten-diff",
        target: "it",
        test: "races::",
    },
    Kind {
        option: "--sweep-stride",
        variable: "CORTEN_SWEEP_STRIDE",
        count: 1,
        package: "corten-metadata",
        target: "it",
        test: "faults::",
    },
];

/// What was asked for.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// For each of [`KINDS`]: how often, if at all.
    counts: [Option<u64>; KINDS.len()],
    hours: Option<f64>,
    seed: Option<u64>,
}

/// Runs what `words` ask for; without a kind among them, all kinds.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let plan = parse(words)?;
    machine::require_root("a soak")?;
    let programs = step("build the daemon and the shim", || build::all(build::Profile::Dev))?;
    let mut seed = plan.seed.unwrap_or_else(seed_of_now);
    let logs = workspace().join("target/soak");
    std::fs::create_dir_all(&logs)?;
    let begin = Instant::now();
    let mut failed = 0;
    loop {
        for (kind, count) in KINDS.iter().zip(plan.counts) {
            if let Some(count) = count {
                failed += u64::from(!one(kind, count, seed, &logs, &programs)?);
            }
        }
        let patience = plan.hours.map_or(Duration::ZERO, |hours| Duration::from_secs_f64(hours * 3600.0));
        if begin.elapsed() >= patience {
            break;
        }
        seed = seed.wrapping_add(1);
    }
    ensure!(failed == 0, "{failed} runs failed; their logs are in {}", logs.display());
    Ok(())
}

/// One test, and one line about it.
fn one(kind: &Kind, count: u64, seed: u64, logs: &Path, programs: &build::Programs) -> anyhow::Result<bool> {
    let what = kind.option.trim_start_matches("--");
    let log = logs.join(format!("{what}-{seed}.log"));
    File::create(&log)?;
    let output = File::options().append(true).open(&log)?;
    let begin = Instant::now();
    let mut command = cargo(&["test", "--quiet", "--all-features", "--package", kind.package]);
    command
        .args(["--test", kind.target, kind.test, "--", "--nocapture"])
        .env("CORTEN_TEST_ROOT", "1")
        .env("CORTEN_TEST_DAEMON", &programs.daemon)
        .env("CORTEN_TEST_SHIM", &programs.shim)
        .env("CORTEN_TEST_SEED", seed.to_string())
        .env(kind.variable, count.to_string())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let passed = process::run(&mut command).is_ok();
    let verdict = if passed { "passed" } else { "FAILED" };
    println!("{what} {count}, seed {seed}: {verdict} after {:.0} s", begin.elapsed().as_secs_f64());
    if !passed {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        println!("{}", lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"));
    }
    Ok(passed)
}

fn parse(words: &[&str]) -> anyhow::Result<Plan> {
    let mut plan = Plan::default();
    for pair in words.chunks(2) {
        let &[option, value] = pair else { bail!("{} needs a number", pair[0]) };
        let number = || value.parse::<u64>().with_context(|| format!("{option} {value}: no number"));
        match option {
            "--hours" => {
                let hours: f64 = value.parse().with_context(|| format!("{option} {value}: no number"))?;
                ensure!(hours.is_finite() && hours >= 0.0, "{option} {value}: not a time");
                plan.hours = Some(hours);
            }
            "--seed" => plan.seed = Some(number()?),
            _ => {
                let place = KINDS.iter().position(|kind| kind.option == option);
                let place = place.with_context(|| format!("there is no option {option}"))?;
                plan.counts[place] = Some(number()?);
            }
        }
    }
    if plan.counts.iter().all(Option::is_none) {
        plan.counts = KINDS.each_ref().map(|kind| Some(kind.count));
    }
    Ok(plan)
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_are_named_run_alone() {
        let plan = parse(&["--cuts", "7", "--seed", "3", "--hours", "0.5"]).unwrap();
        let expected = Plan { counts: [None, Some(7), None, None, None], hours: Some(0.5), seed: Some(3) };
        assert_eq!(plan, expected);
    }

    #[test]
    fn all_kinds_run_if_none_is_named() {
        assert!(parse(&[]).unwrap().counts.iter().all(Option::is_some));
        assert!(parse(&["--hours", "2"]).unwrap().counts.iter().all(Option::is_some));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for words in [&["--cats", "7"][..], &["--cuts"], &["--cuts", "many"], &["--hours", "-1"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
