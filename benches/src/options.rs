//! What is measured, and how often.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// How to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Sizes that only show that everything works.
    pub(crate) quick: bool,
    /// Only the measurements whose name contains this.
    pub(crate) only: Option<String>,
    /// How often each is repeated, if not as often as it needs.
    pub(crate) repetitions: Option<usize>,
    /// Where the filesystems that are measured on lie, as loop files.
    pub(crate) folder: PathBuf,
    /// Where images that take long to make are kept.
    pub(crate) cache: PathBuf,
    /// The folder of the report; without it, it is only printed.
    pub(crate) output: Option<PathBuf>,
}

impl Options {
    /// Reads the words after the name of the suite.
    pub(crate) fn parse(words: &[String]) -> anyhow::Result<Self> {
        let mut options = Self {
            quick: false,
            only: None,
            repetitions: None,
            folder: "/dev/shm".into(),
            cache: std::env::temp_dir(),
            output: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--quick" => options.quick = true,
                "--only" => options.only = Some(value()?.clone()),
                "--repetitions" => options.repetitions = Some(value()?.parse().context("--repetitions")?),
                "--on" => options.folder = value()?.into(),
                "--cache" => options.cache = value()?.into(),
                "--output" => options.output = Some(value()?.into()),
                other => bail!(
                    "{other} is no option; there are --quick, --only NAME, --repetitions N, --on FOLDER"
                ),
            }
        }
        Ok(options)
    }

    /// Whether the measurement is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// The number of repetitions: what the user said, one if it shall be quick, else `usual`.
    pub(crate) fn repetitions(&self, usual: usize) -> usize {
        self.repetitions.unwrap_or(if self.quick { 1 } else { usual })
    }

    /// `full`, or `quick` if it shall be quick.
    pub(crate) fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}
