//! Scripted failures and power cuts.
