#![doc = include_str!("../README.md")]

mod answers;
mod commands;
mod console;
mod error;
mod log;
mod memory_file;
mod options;
mod pid_file;
mod processes;
mod runtime;

pub use answers::{ContainerState, Version};
pub use console::ConsoleSocket;
pub use error::{Operation, Result, RuntimeError};
pub use options::{CheckpointOptions, CreateOptions, ExecOptions, ProcessIo, RestoreOptions};
pub use pid_file::read_pid_file;
pub use processes::{Processes, ThreadedProcesses};
pub use runtime::Runtime;
