//! containerd's gRPC and ttrpc services over Corten's contracts.
