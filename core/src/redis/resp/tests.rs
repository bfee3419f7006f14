//! The reader against a writer of its own, against garbage, and against what redis-server sends.

use proptest::prelude::*;

use super::*;

fn text(text: &str) -> Reply {
    Reply::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn small(bytes: usize, elements: usize) -> Bounds {
    Bounds { bytes, elements }
}

/// The bytes of a reply; strings as bulk strings.
fn write(reply: &Reply, to: &mut Vec<u8>) {
    match reply {
        Reply::Nil => to.extend_from_slice(b"$-1\r\n"),
        Reply::Number(number) => to.extend_from_slice(format!(":{number}\r\n").as_bytes()),
        Reply::Text(text) => {
            to.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
            to.extend_from_slice(text);
            to.extend_from_slice(b"\r\n");
        }
        Reply::Refused(word) => to.extend_from_slice(format!("-{word} because\r\n").as_bytes()),
        Reply::List(items) => {
            to.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
            items.iter().for_each(|item| write(item, to));
        }
    }
}

/// Values in a reply, itself included.
fn count(reply: &Reply) -> usize {
    match reply {
        Reply::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// Feeds `bytes` in pieces that end at `cuts`, which may be anything.
fn fed(reader: &mut Reader, bytes: &[u8], cuts: &[usize]) -> Result<bool, Broken> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let mut last = reader.feed(b"");
    for pair in cuts.windows(2) {
        last = reader.feed(&bytes[pair[0]..pair[1]]);
    }
    last
}

#[test]
fn what_redis_7_sends_is_read() {
    // Captured from redis-server 7.0.15.
    let wire = b"+OK\r\n$-1\r\n:2\r\n*3\r\n$1\r\na\r\n$-1\r\n$0\r\n\r\n*0\r\n*-1\r\n:-2\r\n\
        -WRONGTYPE Operation against a key holding the wrong kind of value\r\n\
        -NOAUTH Authentication required.\r\n";
    let expected = [
        text("OK"),
        Reply::Nil,
        Reply::Number(2),
        Reply::List(vec![text("a"), Reply::Nil, text("")]),
        Reply::List(vec![]),
        Reply::Nil,
        Reply::Number(-2),
        Reply::Refused("WRONGTYPE".into()),
        Reply::Refused("NOAUTH".into()),
    ];
    assert_eq!(parse(wire).unwrap(), expected);
}

#[test]
fn commands_are_written_as_lists_of_bulk_strings() {
    let commands = [Command::new(&[b"SET", b"a\r\nb", b"", b"\xff\x00"]), Command(Vec::new())];
    let wire: &[u8] = b"*4\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n$2\r\n\xff\x00\r\n*0\r\n";
    assert_eq!(encode(&commands), wire);
}

#[test]
fn case_004_86_garbage_is_refused() {
    let garbled: &[&[u8]] = &[
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"\n",
        b"+OK\n",
        b"+O\rK\r\n",
        b":\r\n",
        b":1.5\r\n",
        b":99999999999999999999\r\n",
        b"$\r\n",
        b"$-2\r\n",
        b"$x\r\n",
        b"$3\r\nabcde\r\n",
        b"*-2\r\n",
        b"$99999999999999999999999\r\n",
        // RESP3 is for those who have asked for it.
        b"%1\r\n+a\r\n+b\r\n",
        b"_\r\n",
        b">2\r\n+invalidate\r\n*0\r\n",
        b"\x16\x03\x01",
    ];
    for bytes in garbled {
        assert_eq!(parse(bytes), Err(Broken::Garbled), "{:?}", String::from_utf8_lossy(bytes));
    }
    for bytes in [&b"+OK"[..], b"$3\r\nab", b"$3\r\nabc\r", b"*2\r\n:1\r\n", b":1\r\n:", b"*1\r\n"]
    {
        assert_eq!(parse(bytes), Err(Broken::BrokenOff), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn what_is_announced_is_refused_before_it_comes() {
    let bytes = Broken::TooLong { limit: 8 << 20 };
    let elements = Broken::TooMany { limit: 10_000 };
    assert_eq!(parse(b"$9223372036854775807\r\n"), Err(bytes));
    assert_eq!(parse(b"$8388608\r\n"), Err(bytes));
    assert_eq!(parse(b"*9223372036854775807\r\n"), Err(elements));
    assert_eq!(parse(b"*10000\r\n"), Err(elements));
    assert_eq!(parse(b"*2\r\n*9000\r\n*0\r\n*9000\r\n"), Err(Broken::BrokenOff));
    assert_eq!(parse(&b":1\r\n".repeat(10_001)), Err(elements));
    assert_eq!(parse(&[b'+'; 70_000]), Err(Broken::TooLong { limit: LINE }));
    assert_eq!(parse(&b"*1\r\n".repeat(33)), Err(Broken::TooDeep { limit: 32 }));
    assert_eq!(parse(&[&b"*1\r\n".repeat(32)[..], b":1\r\n"].concat()).unwrap().len(), 1);
}

#[test]
fn the_bounds_hold_to_the_byte_and_the_element() {
    let wire = b"*2\r\n$3\r\nabc\r\n:7\r\n";
    let read = |bounds| {
        let mut reader = Reader::new(1, bounds);
        reader.feed(wire)
    };
    assert_eq!(read(small(wire.len(), 3)), Ok(true));
    assert_eq!(read(small(wire.len() - 1, 3)), Err(Broken::TooLong { limit: wire.len() - 1 }));
    assert_eq!(read(small(wire.len(), 2)), Err(Broken::TooMany { limit: 2 }));
    assert_eq!(read(small(0, 0)), Err(Broken::TooLong { limit: 0 }));
    assert_eq!(read(small(usize::MAX, usize::MAX)), Ok(true));
    let mut reader = Reader::new(1, small(usize::MAX, usize::MAX));
    assert_eq!(reader.feed(b"$9223372036854775807\r\nx"), Ok(false));
    assert!(reader.bulk.as_ref().unwrap().text.capacity() <= FIRST, "nothing is believed");
}

#[test]
fn what_nobody_asked_for_is_an_error_and_stays_one() {
    let mut reader = Reader::new(1, Bounds::default());
    assert_eq!(reader.feed(b"+OK\r\n+OK\r\n"), Err(Broken::Surplus));
    assert_eq!(reader.feed(b""), Err(Broken::Surplus));
    let mut reader = Reader::new(0, Bounds::default());
    assert!(reader.is_done());
    assert_eq!(reader.feed(b""), Ok(true));
    assert_eq!(reader.feed(b"+OK\r\n"), Err(Broken::Surplus));
}

#[test]
fn an_error_is_a_word_and_nothing_of_its_message() {
    for (wire, word) in [
        ("-ERR unknown command\r\n", "ERR"),
        ("-NOPERM\r\n", "NOPERM"),
        ("-\r\n", "ERR"),
        ("- x\r\n", "ERR"),
        ("-\u{1b}[31mred\r\n", "ERR"),
        ("-AWORDTHATISMUCHTOOLONGTOBEAWORDATALL x\r\n", "ERR"),
    ] {
        assert_eq!(parse(wire.as_bytes()).unwrap(), [Reply::Refused(word.into())], "{wire:?}");
    }
}

fn replies() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        Just(Reply::Nil),
        any::<i64>().prop_map(Reply::Number),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|text| Reply::Text(text.into())),
        "[A-Z]{1,32}".prop_map(|word| Reply::Refused(word.into())),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        proptest::collection::vec(inner, 0..6).prop_map(Reply::List)
    })
}

proptest! {
    #[test]
    fn replies_come_out_as_they_went_in_however_they_are_cut(
        sent in proptest::collection::vec(replies(), 1..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let mut wire = Vec::new();
        sent.iter().for_each(|reply| write(reply, &mut wire));
        let all = sent.iter().map(count).sum();
        let mut reader = Reader::new(sent.len(), small(wire.len(), all));
        prop_assert_eq!(fed(&mut reader, &wire, &cuts), Ok(true));
        prop_assert_eq!(&reader.into_replies(), &sent);
        // One element less is one too few.
        let mut reader = Reader::new(sent.len(), small(wire.len(), all - 1));
        prop_assert_eq!(fed(&mut reader, &wire, &cuts), Err(Broken::TooMany { limit: all - 1 }));
        // And without its last byte nothing is done.
        let mut reader = Reader::new(sent.len(), Bounds::default());
        prop_assert_eq!(fed(&mut reader, &wire[..wire.len() - 1], &cuts), Ok(false));
    }

    #[test]
    fn a_long_string_comes_whole_and_takes_no_more_room_than_it_needs(
        length in 0_usize..200_000,
        cut in 1_usize..70_000,
    ) {
        let sent = Reply::Text(vec![7; length].into());
        let mut wire = Vec::new();
        write(&sent, &mut wire);
        let mut reader = Reader::new(1, Bounds::default());
        for piece in wire.chunks(cut) {
            prop_assert!(reader.feed(piece).is_ok());
            if let Some(bulk) = &reader.bulk {
                prop_assert!(bulk.text.capacity() <= length + 2);
                prop_assert!(bulk.text.capacity() <= FIRST.max(2 * bulk.text.len()));
            }
        }
        prop_assert_eq!(reader.into_replies(), [sent]);
    }

    #[test]
    fn any_bytes_are_survived_and_cutting_them_changes_nothing(
        bytes in proptest::collection::vec(
            prop_oneof![3 => proptest::sample::select(&b"+-:$*\r\n0123456789"[..]), 1 => any::<u8>()],
            0..200,
        ),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
        wanted in 0_usize..5,
        bounds in (0_usize..200, 0_usize..20),
    ) {
        let bounds = small(bounds.0, bounds.1);
        let mut whole = Reader::new(wanted, bounds);
        let mut pieces = Reader::new(wanted, bounds);
        let left = whole.feed(&bytes);
        let right = fed(&mut pieces, &bytes, &cuts);
        prop_assert!(whole.done.iter().map(count).sum::<usize>() <= bounds.elements);
        prop_assert_eq!(left, right);
        prop_assert_eq!(whole.done, pieces.done);
    }
}
