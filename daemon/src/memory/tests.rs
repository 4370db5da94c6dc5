use super::program;

const SMAPS: &str = "\
56440cd5f000-56440d2e7000 r--p 00000000 fe:00 5554252                    /usr/bin/cortend
Size:               5664 kB
Rss:                1728 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
56440d2e7000-56440e450000 r-xp 00587000 fe:00 5554252                    /usr/bin/cortend
Rss:               10532 kB
Anonymous:             4 kB
56440e4ec000-56440e500000 rw-p 016ef000 fe:00 5554252                    /usr/bin/cortend
Anonymous:             0 kB
7f26a0b4a000-7f26a0b70000 r--s 00000000 fe:00 326279                     /root/metadata.db-shm
Anonymous:             0 kB
7f26a0b70000-7f26a0cc6000 r-xp 00026000 fe:00 326279                     /usr/lib/with a space.so (deleted)
Anonymous:             0 kB
7f26a0d00000-7f26a0d01000 r--p 00000000 00:00 0
Anonymous:             0 kB
7ffc6a2b7000-7ffc6a2b9000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
";

#[test]
fn only_unchanged_private_pages_of_files_are_given_up() {
    let expected = vec![(0x5644_0cd5_f000, 0x58_8000), (0x7f26_a0b7_0000, 0x15_6000)];
    assert_eq!(program::unchanged(SMAPS), expected);
}

#[test]
fn nonsense_is_nothing() {
    for text in ["", "-", "x-y r--p 0 0 0 /f\nAnonymous: 0 kB", "2000-1000 r--p 0 0 0 /f\nAnonymous: 0 kB"] {
        assert_eq!(program::unchanged(text), Vec::new(), "{text:?}");
    }
}

#[test]
fn the_program_runs_on_after_it_was_given_up() {
    let before = std::fs::read_to_string("/proc/self/smaps").expect("read");
    assert!(!program::unchanged(&before).is_empty(), "the program itself is such a file");
    for _ in 0..3 {
        program::forget();
        super::allocator::give_back();
    }
    let sum: u64 = (0..1000).map(|number| number.to_string().len() as u64).sum();
    assert_eq!(sum, 10 + 2 * 90 + 3 * 900);
}
