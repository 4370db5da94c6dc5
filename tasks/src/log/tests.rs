use super::*;

fn lines(pieces: &[&[u8]]) -> Vec<String> {
    let mut lines = Lines::default();
    let mut found = Vec::new();
    for piece in pieces {
        lines.feed(piece, |line| found.push(line.to_owned()));
    }
    found
}

#[test]
fn lines_are_put_together_and_empty_ones_left_out() {
    assert_eq!(lines(&[b"one\ntw", b"o\n", b"\n  \n", b"no end"]), ["one", "two"]);
    assert_eq!(lines(&[b"\xff\n"]), ["\u{fffd}"]);
}

#[test]
fn a_line_is_cut_one_byte_past_the_limit_and_not_at_it() {
    let at = [b"x".repeat(MAX_LINE_BYTES), b"\n".to_vec()].concat();
    assert_eq!(lines(&[&at]).iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE_BYTES]);
    let past = [b"x".repeat(MAX_LINE_BYTES + 1), b"\n".to_vec()].concat();
    assert_eq!(lines(&[&past]).iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE_BYTES, 1]);
}
