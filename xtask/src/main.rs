//! Project chores: `cargo xtask <chore>`.

mod bench;
mod build;
mod check;
mod compatibility;
mod containerd;
mod demo;
mod fuzz;
mod generate;
mod layers;
mod machine;
mod package;
mod process;
mod soak;
mod test;

use anyhow::bail;

const USAGE: &str = "usage: cargo xtask <chore>
  demo                from an empty machine to a running container, step by step
  test                what CI runs: install what is missing, check, build, run every test
  soak [--kills N] [--cuts N] [--damages N] [--races N] [--sweep-stride N] [--hours H] [--seed S]
                      crashes, damages and races of the storage, as many as one has time for
  fuzz [SECONDS]      the fuzz target of the layer engine, led by what it covers
  check               formatting, lints, the layers of the map, generated code
  build [--release]   the daemon, and the shim with its own profile
  generate [--check]  compile api/proto
  compatibility       run the end-to-end tests on Corten and on containerd, write docs/compatibility.md
  package             package every published crate, build those that stand alone from their packages
  bench all|start|storage|layers [--quick] [--only NAME] [--repetitions N] [--on FOLDER]
                      the daemon beside containerd, written into docs/benchmarks.md
  bench crates        the benchmarks of the single crates, each for a moment";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["demo"] => demo::run(),
        ["test"] => test::run(),
        ["compatibility"] => compatibility::run(),
        ["bench", words @ ..] => bench::run(words),
        ["package"] => package::run(),
        ["soak", words @ ..] => soak::run(words),
        ["fuzz", words @ ..] => fuzz::run(words),
        ["check"] => check::run(),
        ["build"] => build::all(build::Profile::Dev).map(drop),
        ["build", "--release"] => build::all(build::Profile::Release).map(drop),
        ["generate"] => generate::write(),
        ["generate", "--check"] => generate::check(),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}
