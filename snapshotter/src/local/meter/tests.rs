use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use corten_types::ErrorKind;

use super::{Answer, CHEAP, KNOWN_LIMIT, Known, Meter, QUEUE_LIMIT, REST_FACTOR};
use crate::Usage;

fn answer(inodes: u64, took: Duration) -> Known {
    let outcome = Ok(Usage { size_bytes: 0, inodes });
    let answer = Answer { outcome, is_whole: true, at: Instant::now(), took };
    Known { rounds: 1, is_awaited: false, answer: Some(answer) }
}

/// A worker that never gets to its queue: nothing is measured while a test looks.
fn stuck() -> Meter {
    let meter = Meter::default();
    meter.shared.lock().works = true;
    meter
}

#[test]
fn a_small_tree_is_measured_for_every_question() {
    let folder = tempfile::tempdir().unwrap();
    let meter = Meter::default();
    for inodes in 1..20 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let measured = meter.ask(1, folder.path().to_owned()).unwrap();
            if measured.usage.inodes == inodes && measured.is_whole {
                break;
            }
            assert!(Instant::now() < deadline, "{measured:?} instead of {inodes}");
        }
        File::create(folder.path().join(inodes.to_string())).unwrap();
    }
}

#[test]
fn a_large_tree_is_told_as_it_was_until_the_meter_has_rested() {
    let meter = stuck();
    let took = CHEAP + Duration::from_secs(60);
    meter.shared.lock().known.insert(1, answer(7, took));
    let measured = meter.ask(1, "/nowhere".into()).unwrap();
    assert_eq!((measured.usage.inodes, measured.is_whole), (7, true));
    assert!(meter.shared.lock().queue.is_empty(), "it was measured a moment ago");

    meter.shared.lock().known.get_mut(&1).unwrap().answer.as_mut().unwrap().at =
        Instant::now().checked_sub(took * REST_FACTOR).unwrap();
    meter.shared.lock().rests_until = Some(Instant::now() + took);
    assert_eq!(meter.ask(1, "/nowhere".into()).unwrap().usage.inodes, 7);
    assert!(meter.shared.lock().queue.is_empty(), "another large one was measured a moment ago");

    meter.shared.lock().rests_until = None;
    let measured = meter.ask(1, "/nowhere".into()).unwrap();
    assert_eq!(measured.usage.inodes, 7, "nobody waits for long");
    assert!(measured.age >= took * REST_FACTOR, "{measured:?}");
    assert_eq!(meter.shared.lock().queue.len(), 1);
    meter.ask(1, "/nowhere".into()).unwrap();
    assert_eq!(meter.shared.lock().queue.len(), 1, "it waits already");
}

#[test]
fn the_first_answer_of_a_huge_tree_says_that_it_is_not_whole() {
    let meter = stuck();
    let mut known = answer(50_000, Duration::from_secs(3));
    known.rounds = 0;
    known.is_awaited = true;
    known.answer.as_mut().unwrap().is_whole = false;
    meter.shared.lock().known.insert(1, known);
    let measured = meter.ask(1, "/nowhere".into()).unwrap();
    assert_eq!((measured.usage.inodes, measured.is_whole), (50_000, false));
}

#[test]
fn a_full_queue_refuses_first_questions_and_answers_others() {
    let meter = stuck();
    {
        let mut state = meter.shared.lock();
        state.known.insert(1, answer(7, Duration::ZERO));
        for id in 10..10 + QUEUE_LIMIT as u64 - 1 {
            state.queue.push_back((id, "/nowhere".into()));
        }
    }
    std::thread::scope(|scope| {
        // The last place; nobody serves it, so it waits out its patience.
        let waiting = scope.spawn(|| meter.ask(2, "/nowhere".into()));
        while meter.shared.lock().queue.len() < QUEUE_LIMIT {
            std::thread::yield_now();
        }
        assert_eq!(meter.ask(3, "/nowhere".into()).unwrap_err().kind(), ErrorKind::ResourceExhausted);
        assert_eq!(meter.ask(1, "/nowhere".into()).unwrap().usage.inodes, 7);
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    });
}

#[test]
fn only_so_many_answers_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let meter = Meter::default();
    for id in 0..KNOWN_LIMIT as u64 {
        meter.shared.lock().known.insert(id, answer(1, Duration::ZERO));
    }
    meter.ask(KNOWN_LIMIT as u64, folder.path().to_owned()).unwrap();
    let state = meter.shared.lock();
    assert_eq!(state.known.len(), KNOWN_LIMIT);
    assert!(!state.known.contains_key(&0), "the oldest goes");
}

#[test]
fn what_is_not_there_is_told_and_the_meter_goes_on() {
    let meter = Meter::default();
    assert_eq!(meter.ask(1, "/nowhere/at/all".into()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(meter.ask(2, Path::new("/proc/self/fd").into()).unwrap().usage.size_bytes, 0);
    meter.forget(1);
    assert!(!meter.shared.lock().known.contains_key(&1));
}
