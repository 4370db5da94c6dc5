//! The binary `containerd-shim-runc-v2`.

use std::process::ExitCode;

fn main() -> ExitCode {
    corten_shim::main(std::env::args().skip(1))
}
