//! What is logged, and how.

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::DebugSettings;

/// Crates whose own details are only wanted at the most detailed level.
const NOISY: [&str; 5] = ["h2", "hyper", "hyper_util", "tonic", "tower"];

/// Logs to standard error from here on. `fatal` and `panic` are as quiet as `error`.
pub fn start(settings: &DebugSettings) {
    let level = match settings.level.as_str() {
        "fatal" | "panic" => "error",
        level => level,
    };
    let mut filter = EnvFilter::new(level);
    if level != "trace" {
        for name in NOISY {
            let directive = format!("{name}=warn").parse().expect("a crate and a level are a directive");
            filter = filter.add_directive(directive);
        }
    }
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if settings.format == "json" {
        builder.json().init();
    } else {
        builder.init();
    }
}
