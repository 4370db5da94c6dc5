#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod any;
mod descriptor;
mod digest;
mod error;
mod identifier;
mod labels;
mod mask;
mod mount;
mod platform;

pub use any::Any;
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest};
pub use error::{Error, ErrorKind, Result};
pub use identifier::{Identifier, MAX_IDENTIFIER_BYTES, Namespace, validate_identifier};
pub use labels::{Labels, MAX_LABEL_BYTES, validate_labels};
pub use mask::{FieldPath, UpdateMask};
pub use mount::Mount;
pub use platform::Platform;
