//! The report: a section of Markdown with its targets, and a plot.

use std::{fmt::Write, fs, path::Path};

use anyhow::Context;

use crate::{
    options::Options,
    peers::Peer,
    plot::{self, Bar},
};

/// What is asked of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Wanted {
    fn is_met(self, got: f64) -> bool {
        match self {
            Self::AtLeast(bound) => got >= bound,
            Self::AtMost(bound) => got <= bound,
        }
    }
}

pub(crate) struct Report {
    suite: String,
    machine: String,
    body: String,
    targets: Vec<Vec<String>>,
    missed: usize,
    bars: Vec<Bar>,
}

impl Report {
    pub(crate) fn new(suite: &str, options: &Options) -> anyhow::Result<Self> {
        Ok(Self {
            suite: suite.to_owned(),
            machine: machine(options)?,
            body: String::new(),
            targets: Vec::new(),
            missed: 0,
            bars: Vec::new(),
        })
    }

    pub(crate) fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "### {text}\n");
    }

    pub(crate) fn say(&mut self, text: &str) {
        let _ = writeln!(self.body, "{text}\n");
    }

    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.body.push_str(&table(head, rows));
    }

    /// Judges a figure.
    pub(crate) fn target(&mut self, what: &str, wanted: Wanted, got: f64, unit: &str) {
        let bound = match wanted {
            Wanted::AtLeast(bound) => format!("at least {bound} {unit}"),
            Wanted::AtMost(bound) => format!("at most {bound} {unit}"),
        };
        let met = wanted.is_met(got);
        self.missed += usize::from(!met);
        let verdict = if met { "met" } else { "**missed**" };
        self.targets.push(vec![what.to_owned(), bound, figure(got), verdict.to_owned()]);
    }

    /// Judges how many times faster than containerd Corten is; the plot shows it.
    pub(crate) fn speedup(&mut self, what: &str, at_least: f64, got: f64) {
        self.target(what, Wanted::AtLeast(at_least), got, "times containerd");
        self.bars.push(Bar { label: what.to_owned(), ratio: got, target: Some(at_least) });
    }

    /// Shows how many times faster than containerd Corten is, where nobody asked for more.
    pub(crate) fn ratio(&mut self, what: &str, got: f64) {
        self.bars.push(Bar { label: what.to_owned(), ratio: got, target: None });
    }

    /// Prints it, and writes it into `docs/benchmarks.md` of the options' folder, between this suite's marks.
    pub(crate) fn write(&self, options: &Options) -> anyhow::Result<()> {
        let text = self.text();
        println!("{text}");
        let Some(folder) = &options.output else { return Ok(()) };
        if !self.bars.is_empty() {
            fs::create_dir_all(folder.join("benchmarks"))?;
            let title = format!("{}: times faster than containerd", self.suite);
            plot::draw(&folder.join(format!("benchmarks/{}.svg", self.suite)), &title, &self.bars)?;
        }
        replace(&folder.join("benchmarks.md"), &self.suite, &text)
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.machine);
        if !self.bars.is_empty() {
            let _ =
                writeln!(text, "![How many times faster than containerd](benchmarks/{}.svg)\n", self.suite);
        }
        if !self.targets.is_empty() {
            let _ = writeln!(text, "### Targets\n\n{} of {} are missed.\n", self.missed, self.targets.len());
            text.push_str(&table(&["", "wanted", "measured", ""], &self.targets));
        }
        text.push_str(&self.body);
        text
    }
}

/// Whole numbers have no digits after the point.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text.push('\n');
    text
}

/// Puts `text` between the marks of `suite`.
fn replace(path: &Path, suite: &str, text: &str) -> anyhow::Result<()> {
    let (begin, end) = (format!("<!-- begin {suite} -->\n"), format!("<!-- end {suite} -->"));
    let old = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let missing = || format!("{} has no marks of {suite}", path.display());
    let (before, rest) = old.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    fs::write(path, format!("{before}{begin}\n{}\n\n{end}{after}", text.trim_end()))?;
    Ok(())
}

/// The machine, the versions, and whether the machine had anything else to do.
fn machine(options: &Options) -> anyhow::Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
    let release = read("/proc/sys/kernel/osrelease")?;
    let kernel: Vec<&str> = release.trim().split('.').take(2).collect();
    let cores = std::thread::available_parallelism()?;
    let processor = read("/proc/cpuinfo")?;
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processor = processor.map_or("unknown", |(_, name)| name).replace("(R)", "");
    let memory = read("/proc/meminfo")?;
    let kilobytes: Option<f64> =
        memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    let memory_gb = kilobytes.unwrap_or_default() * 1024.0 / 1e9;
    let load = read("/proc/loadavg")?;
    let load: f64 = load.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
    let calm = if load < 1.0 {
        "The machine had nothing else to do.".to_owned()
    } else {
        format!("**Provisional**: the machine had other work (load {load:.1} at the start).")
    };
    let place = if options.folder.starts_with("/dev/shm") { "memory" } else { "a disk" };
    let size = options.size("", " **Quick sizes: these figures only show that everything works.**");
    Ok(format!(
        "Corten {} beside containerd {} (the newest that Debian has for this machine), in turn. {cores} cores of {processor}, \
         {memory_gb:.0} GB, Linux {}; every repetition on a fresh ext4 on a loop file in {place}. {calm}{size}",
        Peer::Corten.version()?,
        Peer::Containerd.version()?,
        kernel.join(".")
    ))
}
