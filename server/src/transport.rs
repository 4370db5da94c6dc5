//! Sockets, and gRPC over them.

mod limits;
mod serve;
mod socket;

pub use limits::MAX_MESSAGE_BYTES;
pub use serve::{Grpc, GrpcBody, GrpcBuilder};
pub use socket::{SocketOptions, bind};
