//! containerd's filter grammar over anything that can name its fields.
