//! Sockets, and gRPC over them.

mod bulk;
mod limits;
mod serve;
mod socket;

pub use bulk::{AfterBulk, BULK_BYTES, BULK_TIME};
pub use limits::MAX_MESSAGE_BYTES;
pub use serve::{Grpc, GrpcBody, GrpcBuilder};
pub use socket::{SocketOptions, bind};
