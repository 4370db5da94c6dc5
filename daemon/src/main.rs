//! cortend, the daemon.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use corten_daemon::{
    app::App,
    cli::{Command, CommandLine, ConfigCommand, REVISION, VERSION},
    config::{self, Loaded, Settings},
    fsck, hook, logging, memory, publish,
};
use tokio::signal::unix::{SignalKind, signal};

/// After so long an idle thread for blocking work ends: each keeps as much stack as it ever needed, and a new one costs less than a
/// request.
const IDLE_THREAD: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    match run(&command_line) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cortend: {error:#}");
            match command_line.command {
                Some(Command::Fsck(_)) => fsck::FAILED.into(),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(command_line: &CommandLine) -> anyhow::Result<ExitCode> {
    if command_line.version {
        println!("cortend corten {VERSION} {REVISION}");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Command::Fsck(options)) = &command_line.command {
        let loaded = config::load(command_line.config.as_deref())?;
        let settings = Settings::read(&loaded.table, &command_line.tunable())?;
        return fsck::run(options, &settings).map(ExitCode::from);
    }
    run_to_end(command_line).map(|()| ExitCode::SUCCESS)
}

fn run_to_end(command_line: &CommandLine) -> anyhow::Result<()> {
    let load = || config::load(command_line.config.as_deref());
    match &command_line.command {
        Some(Command::Config { which: ConfigCommand::Default }) => {
            print!("{}", config::render(&config::default_table()));
            Ok(())
        }
        Some(Command::Config { which: ConfigCommand::Dump | ConfigCommand::Migrate }) => {
            let loaded = load()?;
            loaded.warnings.iter().for_each(|warning| eprintln!("cortend: {warning}"));
            print!("{}", config::render(&loaded.table));
            Ok(())
        }
        Some(Command::Publish { namespace, topic }) => {
            let address =
                command_line.address.as_deref().unwrap_or(Path::new("/run/containerd/containerd.sock"));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(publish::run(address, namespace, topic))
        }
        Some(Command::OciHook { command }) => hook::run(command),
        Some(Command::Fsck(_)) | None => serve(command_line, load()?),
    }
}

fn serve(command_line: &CommandLine, loaded: Loaded) -> anyhow::Result<()> {
    memory::begin_small();
    let settings = Settings::read(&loaded.table, &command_line.tunable())?;
    logging::start(&settings.debug);
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    tracing::info!(version = VERSION, revision = REVISION, root = %settings.root.display(), "starting cortend");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_keep_alive(IDLE_THREAD).build()?;
    runtime.block_on(async {
        let begin = std::time::Instant::now();
        let app = App::build(settings).await?;
        app.addresses().for_each(|address| tracing::info!(address = %address.display(), "serving"));
        tracing::info!("cortend successfully booted in {:.6}s", begin.elapsed().as_secs_f64());
        app.serve(told_to_stop()?).await
    })
}

/// Ends when the service manager or a person says so. SIGUSR1, which dumps containerd's stacks, must not kill.
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("listen for signals");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut user = listen(SignalKind::user_defined1())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = user.recv() => tracing::info!("SIGUSR1: this daemon has no stacks to dump"),
            }
        }
    })
}
