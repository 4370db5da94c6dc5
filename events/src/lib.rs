//! Topics, envelopes and an exchange with filters.
