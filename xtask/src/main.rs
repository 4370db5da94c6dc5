//! Project chores: `cargo xtask <chore>`.

mod build;
mod check;
mod generate;
mod layers;
mod machine;
mod process;
mod test;

use anyhow::bail;

const USAGE: &str = "usage: cargo xtask <chore>
  test                what CI runs: install what is missing, check, build, run every test
  check               formatting, lints, the layers of the map, generated code
  build [--release]   the daemon, and the shim with its own profile
  generate [--check]  compile api/proto";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["test"] => test::run(),
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
