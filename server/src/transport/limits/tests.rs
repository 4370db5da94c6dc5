use super::{MAX_MESSAGE_BYTES, Messages};

fn message(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    bytes.resize(5 + length, 7);
    bytes
}

#[test]
fn messages_are_followed_however_they_are_cut() {
    let bytes = [message(0), message(1), message(300), message(0), message(5)].concat();
    for piece in 1..bytes.len() {
        let mut messages = Messages::default();
        for chunk in bytes.chunks(piece) {
            messages.follow(chunk).unwrap();
        }
        assert_eq!((messages.prefix_len, messages.message_left), (0, 0));
    }
}

#[test]
fn the_limit_itself_is_allowed() {
    let mut messages = Messages::default();
    assert_eq!(messages.follow(&message(MAX_MESSAGE_BYTES)), Ok(()));
    assert_eq!(messages.follow(&message(MAX_MESSAGE_BYTES + 1)), Err(MAX_MESSAGE_BYTES + 1));
}
