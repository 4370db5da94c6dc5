//! The commands of a runtime.

use std::{os::fd::AsRawFd, path::Path};

use serde_json::Value;

use crate::{
    CheckpointOptions, ContainerState, CreateOptions, ExecOptions, Operation, ProcessIo, RestoreOptions,
    Result, Runtime, RuntimeError, Version, memory_file, options::Arguments, runtime::Streams,
};

impl Runtime {
    /// Makes the container `id` from `bundle` (absolute). Its init waits for [`start`](Self::start).
    ///
    /// # Errors
    /// [`RuntimeError::Refused`], with nothing running; the runtime may have left state that [`delete`](Self::delete) with
    /// force removes. [`RuntimeError::NotStarted`] and [`RuntimeError::Io`] with nothing changed.
    pub async fn create(
        &self,
        id: &str,
        bundle: &Path,
        options: &CreateOptions,
        io: ProcessIo,
    ) -> Result<()> {
        let arguments = Arguments::of(["create", "--bundle"]).word(bundle).all(options.arguments()).word(id);
        self.run(Operation::Create, arguments, Streams::Container(io)).await.map(drop)
    }

    /// Lets the init of a created container run.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`]: the container is not in the state for it, or its command cannot be run.
    pub async fn start(&self, id: &str) -> Result<()> {
        self.plain(Operation::Start, Arguments::of(["start"]).word(id)).await
    }

    /// What the runtime knows of a container.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] if it does not know it.
    pub async fn state(&self, id: &str) -> Result<ContainerState> {
        let printed = self.run(Operation::State, Arguments::of(["state"]).word(id), Streams::Answer).await?;
        parse(Operation::State, &printed)
    }

    /// Sends `signal` to the init of a container, or with `all` to every process in it.
    ///
    /// # Errors
    /// [`RuntimeError::ProcessFinished`] and [`RuntimeError::NoSuchContainer`] if there is nobody left to send it to
    /// (row H36), [`RuntimeError::Refused`] for everything else.
    pub async fn kill(&self, id: &str, signal: u32, all: bool) -> Result<()> {
        let mut arguments = Arguments::of(["kill"]);
        if all {
            arguments = arguments.word("--all");
        }
        let operation = if all { Operation::KillAll } else { Operation::Kill };
        let arguments = arguments.word(id).word(signal.to_string());
        match self.plain(operation, arguments).await {
            Err(RuntimeError::Refused { message, .. }) => Err(kill_error(message)),
            other => other,
        }
    }

    /// Removes a container that is not running; with `force` it is killed first.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`]; see [`RuntimeError::is_unknown_container`].
    pub async fn delete(&self, id: &str, force: bool) -> Result<()> {
        let mut arguments = Arguments::of(["delete"]);
        if force {
            arguments = arguments.word("--force");
        }
        self.plain(Operation::Delete, arguments.word(id)).await
    }

    /// Runs a further process in a container. `process` is an OCI `process` object in JSON.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`]: the command cannot be run, or the container does not run.
    pub async fn exec(&self, id: &str, process: &[u8], options: &ExecOptions, io: ProcessIo) -> Result<()> {
        // The runtime opens the file by its name, and no name on a disk is needed for that.
        let file = memory_file::holding(process)
            .map_err(|error| RuntimeError::io("keep the process for the runtime", error))?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let arguments = Arguments::of(["exec", "--process"]).word(path).all(options.arguments()).word(id);
        self.run(Operation::Exec, arguments, Streams::Container(io)).await.map(drop)
    }

    /// The process ids in a container, as the host sees them.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`]; [`RuntimeError::BadAnswer`].
    pub async fn ps(&self, id: &str) -> Result<Vec<u32>> {
        let arguments = Arguments::of(["ps", "--format", "json"]).word(id);
        let printed = self.run(Operation::Ps, arguments, Streams::Answer).await?;
        // A container without processes is `null` for runc.
        Ok(parse::<Option<Vec<u32>>>(Operation::Ps, &printed)?.unwrap_or_default())
    }

    /// Freezes every process of a container.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`].
    pub async fn pause(&self, id: &str) -> Result<()> {
        self.plain(Operation::Pause, Arguments::of(["pause"]).word(id)).await
    }

    /// Thaws a container.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`].
    pub async fn resume(&self, id: &str) -> Result<()> {
        self.plain(Operation::Resume, Arguments::of(["resume"]).word(id)).await
    }

    /// Changes limits. `resources` is an OCI `linux.resources` object in JSON and is handed on byte for byte.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`].
    pub async fn update(&self, id: &str, resources: &[u8]) -> Result<()> {
        let arguments = Arguments::of(["update", "--resources=-"]).word(id);
        self.run(Operation::Update, arguments, Streams::Kept(Some(resources))).await.map(drop)
    }

    /// Writes an image of a running container with criu.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`]: among others if criu is not installed.
    pub async fn checkpoint(&self, id: &str, options: &CheckpointOptions) -> Result<()> {
        let arguments = Arguments::of(["checkpoint"]).all(options.arguments()).word(id);
        self.plain(Operation::Checkpoint, arguments).await
    }

    /// Makes and starts the container `id` from `bundle` and an image.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`], as for [`create`](Self::create).
    pub async fn restore(
        &self,
        id: &str,
        bundle: &Path,
        options: &RestoreOptions,
        io: ProcessIo,
    ) -> Result<()> {
        let arguments =
            Arguments::of(["restore"]).all(options.arguments()).word("--bundle").word(bundle).word(id);
        self.run(Operation::Restore, arguments, Streams::Container(io)).await.map(drop)
    }

    /// What the runtime can do, in its own JSON, byte for byte.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`]: among others if it does not know the command.
    pub async fn features(&self) -> Result<Vec<u8>> {
        let printed = self.run(Operation::Features, Arguments::of(["features"]), Streams::Answer).await?;
        parse::<Value>(Operation::Features, &printed)?;
        Ok(printed)
    }

    /// The runtime's name and version.
    ///
    /// # Errors
    /// [`RuntimeError::BadAnswer`].
    pub async fn version(&self) -> Result<Version> {
        let printed = self.run(Operation::Version, Arguments::of(["--version"]), Streams::Answer).await?;
        let text = String::from_utf8_lossy(&printed);
        Version::parse(&text).ok_or_else(|| RuntimeError::BadAnswer {
            operation: Operation::Version,
            message: format!("{:?}", text.chars().take(80).collect::<String>()),
        })
    }

    async fn plain(&self, operation: Operation, arguments: Arguments) -> Result<()> {
        self.run(operation, arguments, Streams::Kept(None)).await.map(drop)
    }
}

fn parse<T: serde::de::DeserializeOwned>(operation: Operation, printed: &[u8]) -> Result<T> {
    serde_json::from_slice(printed)
        .map_err(|error| RuntimeError::BadAnswer { operation, message: error.to_string() })
}

/// What a refused signal means, by the words of runc and crun.
fn kill_error(message: String) -> RuntimeError {
    let lower = message.to_lowercase();
    let finished = ["process already finished", "container not running", "no such process"];
    if finished.iter().any(|words| lower.contains(words)) {
        RuntimeError::ProcessFinished
    } else if lower.contains("does not exist") {
        RuntimeError::NoSuchContainer
    } else {
        RuntimeError::Refused { operation: Operation::Kill, message }
    }
}
