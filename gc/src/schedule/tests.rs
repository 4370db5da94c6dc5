use super::*;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A scheduler that has had its first collection, of no length, at one second.
fn settled(schedule: Schedule) -> Scheduler {
    let mut scheduler = Scheduler::new(schedule, Duration::ZERO);
    assert!(scheduler.poll(ms(1000)));
    scheduler.finished(Duration::ZERO, ms(1000));
    scheduler
}

#[test]
fn the_first_collection_waits_for_the_startup_delay_and_needs_no_change() {
    let mut scheduler = Scheduler::new(Schedule::default(), ms(50));
    assert_eq!(scheduler.deadline(), Some(ms(150)));
    assert!(!scheduler.poll(ms(149)));
    assert!(scheduler.poll(ms(150)));
    assert!(!scheduler.poll(ms(151)), "one is running");
    assert_eq!(scheduler.deadline(), None);
}

#[test]
fn without_a_startup_delay_nothing_happens_until_something_is_deleted() {
    let schedule = Schedule { startup_delay: Duration::ZERO, ..Schedule::default() };
    let mut scheduler = Scheduler::new(schedule, ms(0));
    assert_eq!(scheduler.deadline(), None);
    scheduler.changed(true, ms(7));
    assert_eq!(scheduler.deadline(), Some(ms(7)));
}

#[test]
fn an_idle_scheduler_has_no_deadline() {
    assert_eq!(settled(Schedule::default()).deadline(), None);
}

#[test]
fn a_deletion_after_a_quiet_time_is_followed_at_once_and_before_that_by_the_interval() {
    let mut scheduler = settled(Schedule::default());
    assert_eq!(scheduler.interval(), ms(245), "five milliseconds at two percent");
    let mut early = scheduler.clone();
    early.changed(true, ms(1100));
    assert_eq!(early.deadline(), Some(ms(1245)));
    scheduler.changed(true, ms(9000));
    assert_eq!(scheduler.deadline(), Some(ms(9000)));
}

#[test]
fn the_schedule_delay_gathers_deletions() {
    let mut scheduler = settled(Schedule { schedule_delay: ms(30), ..Schedule::default() });
    scheduler.changed(true, ms(9000));
    scheduler.changed(true, ms(9020));
    assert_eq!(scheduler.deadline(), Some(ms(9030)));
}

#[test]
fn changes_that_delete_nothing_count_up_to_the_mutation_threshold() {
    let mut scheduler = settled(Schedule { mutation_threshold: 3, ..Schedule::default() });
    scheduler.changed(false, ms(9000));
    scheduler.changed(false, ms(9000));
    assert_eq!(scheduler.deadline(), None);
    scheduler.changed(false, ms(9000));
    assert_eq!(scheduler.deadline(), Some(ms(9000)));
}

#[test]
fn a_deletion_threshold_overrides_the_interval_and_defers_what_is_below_it() {
    let mut scheduler = settled(Schedule { deletion_threshold: 2, ..Schedule::default() });
    scheduler.changed(true, ms(1001));
    assert_eq!(scheduler.deadline(), Some(ms(1246)));
    scheduler.changed(true, ms(1002));
    assert_eq!(scheduler.deadline(), Some(ms(1002)));
}

#[test]
fn a_trigger_waits_for_no_interval() {
    let mut scheduler = settled(Schedule::default());
    scheduler.trigger(ms(1001));
    assert_eq!(scheduler.deadline(), Some(ms(1001)));
}

#[test]
fn what_changes_during_a_collection_is_followed_by_another() {
    let mut scheduler = Scheduler::new(Schedule::default(), ms(0));
    assert!(scheduler.poll(ms(100)));
    scheduler.changed(true, ms(110));
    assert_eq!(scheduler.deadline(), None);
    scheduler.finished(ms(20), ms(120));
    assert_eq!(scheduler.deadline(), Some(ms(120 + 980)));
}

#[test]
fn failures_wait_a_second_longer_each_time_and_success_forgets_them() {
    let mut scheduler = Scheduler::new(Schedule::default(), ms(0));
    assert!(scheduler.poll(ms(100)));
    scheduler.failed(ms(100));
    assert_eq!(scheduler.deadline(), Some(ms(1200)));
    assert!(scheduler.poll(ms(1200)));
    scheduler.failed(ms(1200));
    assert_eq!(scheduler.deadline(), Some(ms(3300)));
    assert!(scheduler.poll(ms(3300)));
    scheduler.finished(ms(0), ms(3300));
    assert_eq!(scheduler.interval(), ms(245));
    assert_eq!(scheduler.deadline(), None);
}

#[test]
fn a_pause_threshold_out_of_range_is_clamped_and_zero_keeps_the_first_interval() {
    assert_eq!(settled(Schedule { pause_threshold: 7.0, ..Schedule::default() }).interval(), ms(5));
    assert_eq!(settled(Schedule { pause_threshold: -1.0, ..Schedule::default() }).interval(), ms(1000));
    assert_eq!(
        settled(Schedule { pause_threshold: f64::NAN, ..Schedule::default() }).interval(),
        LONGEST_RETRY
    );
}

#[test]
fn a_failure_that_repeats_for_hours_waits_no_longer_than_the_limit() {
    let mut scheduler = Scheduler::new(Schedule::default(), ms(0));
    let mut now = ms(100);
    for _ in 0..1000 {
        assert!(scheduler.poll(now));
        scheduler.failed(now);
        let next = scheduler.deadline().expect("a failure is tried again");
        assert!(next - now <= LONGEST_RETRY);
        now = next;
    }
}
