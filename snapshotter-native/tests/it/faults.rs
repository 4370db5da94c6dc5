use corten_snapshotter::testsuite::faults;
use corten_snapshotter_native::{Native, Options};

#[test]
fn every_operation_fails_once_and_what_was_told_is_so() {
    faults::every_operation_fails_once::<Native>(Options::default);
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_operation() {
    faults::the_power_goes_before_every_operation::<Native>(Options::default);
}
