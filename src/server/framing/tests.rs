use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;

use super::*;

const CLEAN: Framing = Framing { length_and_transfer_encoding: false, bare_line_feed: false };
const BOTH: Framing = Framing { length_and_transfer_encoding: true, bare_line_feed: false };
const BARE: Framing = Framing { length_and_transfer_encoding: false, bare_line_feed: true };

fn findings<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Framing> {
    let mut watch = FramingWatch::default();
    let mut findings = Vec::new();
    for piece in pieces {
        watch.feed(piece);
        findings.extend(std::iter::from_fn(|| watch.next_finding()));
    }
    findings
}

/// What hyper serves of a connection that brings `bytes`, with what the watch found about each request.
fn served_by_hyper(bytes: &[u8]) -> Vec<Option<Framing>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let (io, findings) = WatchedIo::new(server);
        let (served, mut requests) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            let (findings, served) = (findings.clone(), served.clone());
            async move {
                served.send(findings.take()).unwrap();
                request.into_body().collect().await.ok();
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        http1::Builder::new().half_close(true).serve_connection(TokioIo::new(io), service).await.ok();
        requests.close();
        let mut all = Vec::new();
        while let Some(finding) = requests.recv().await {
            all.push(finding);
        }
        all
    })
}

#[test]
fn each_head_has_the_finding_that_the_table_says_and_hyper_agrees() {
    let table: &[(&str, &[Framing])] = &[
        ("GET / HTTP/1.1\r\n\r\n", &[CLEAN]),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Type: x\r\nTE: trailers\r\nCookie: a=b\r\n\r\n", &[CLEAN]),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n", &[CLEAN, CLEAN]),
        ("POST / HTTP/1.1\r\nContent-Length:3\r\n\r\n\r\n\nGET / HTTP/1.1\r\n\r\n", &[CLEAN, CLEAN]),
        ("POST / HTTP/1.1\r\nCONTENT-length:\t 3 \t\r\n\r\n\r\n\rGET / HTTP/1.1\r\n\r\n", &[CLEAN, CLEAN]),
        (
            "POST / HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 03\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
            &[CLEAN, CLEAN],
        ),
        ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[CLEAN, CLEAN]),
        (
            "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\naGET / HTTP/1.1\r\n\r\n",
            &[CLEAN, CLEAN],
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            &[CLEAN, CLEAN],
        ),
        (
            "POST / HTTP/1.1\r\nTRANSFER-ENCODING:gzip ,\tChunKed \t\r\n\r\n5 \t;a=\"b\"\r\nGET /\r\n1A;\r\n\
             abcdefghijklmnopqrstuvwxyz\r\n00\r\nTrailer: x\r\nT: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            &[CLEAN, CLEAN],
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            &[CLEAN, CLEAN],
        ),
        // hyper closes after these.
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[BOTH]),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", &[BOTH]),
        ("POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH:x\r\n\r\n0\r\n\r\n", &[BOTH]),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length:\r\n\r\n0\r\n\r\n", &[BOTH]),
        (
            "POST / HTTP/1.1\r\ncOnTeNt-LeNgTh: 5\r\nA: b\r\nTrAnSfEr-EnCoDiNg: ,chunked\r\n\r\n0\r\n\r\n",
            &[BOTH],
        ),
        // Names that only look alike.
        (
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encodin: chunked\r\nTransfer_Encoding: chunked\r\n\
             X-Transfer-Encoding: chunked\r\nTransfer-Encodings: chunked\r\n\r\naGET / HTTP/1.1\r\n\r\n",
            &[CLEAN, CLEAN],
        ),
        (
            "POST / HTTP/1.1\r\nA: Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            &[CLEAN, CLEAN],
        ),
        // Line feeds.
        ("GET / HTTP/1.1\n\r\nGET / HTTP/1.1\r\n\r\n", &[BARE, CLEAN]),
        ("GET / HTTP/1.1\r\n\nGET / HTTP/1.1\r\n\r\n", &[BARE, CLEAN]),
        ("GET / HTTP/1.1\n\nGET / HTTP/1.1\n\n", &[BARE, BARE]),
        ("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", &[BARE]),
        ("GET / HTTP/1.1\r\nC:\nT:\n\r\n", &[BARE]),
        ("POST / HTTP/1.1\r\nContent-Length: 1\n\r\naGET / HTTP/1.1\r\n\r\n", &[BARE, CLEAN]),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            &[BARE, CLEAN],
        ),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[CLEAN, CLEAN]),
        ("\nGET / HTTP/1.1\r\n\r\n\r\n\nGET / HTTP/1.1\r\n\r\n", &[BARE, BARE]),
        // A body that ends in a carriage return does not excuse the line feed after it.
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[CLEAN, BARE]),
        (
            "POST / HTTP/1.1\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &[Framing { length_and_transfer_encoding: true, bare_line_feed: true }],
        ),
    ];
    for (bytes, expected) in table {
        assert_eq!(findings([bytes.as_bytes()]), *expected, "{bytes:?}");
        let expected: Vec<_> = expected.iter().copied().map(Some).collect();
        assert_eq!(served_by_hyper(bytes.as_bytes()), expected, "hyper: {bytes:?}");
        for at in 0..=bytes.len() {
            let (one, other) = bytes.as_bytes().split_at(at);
            let expected: Vec<_> = expected.iter().copied().flatten().collect();
            assert_eq!(findings([one, other]), expected, "{:?}", (String::from_utf8_lossy(one), other));
        }
    }
}

#[test]
fn framing_that_hyper_refuses_ends_the_watch() {
    let table = [
        "\rGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n\rA: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: \r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nContent-Length: 1 1\r\n\r\na",
        "POST / HTTP/1.1\r\nContent-Length: 1,1\r\n\r\na",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        "POST / HTTP/1.1\r\nContent-Length: 18446744073709551614\r\n\r\na",
        "POST / HTTP/1.1\r\nContent-Length: 184467440737095516160\r\n\r\na",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunke\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunkedd\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunk ed\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: é, chunked\r\n\r\n0\r\n\r\n",
    ];
    for bytes in table {
        assert_eq!(served_by_hyper(bytes.as_bytes()), [], "hyper: {bytes:?}");
        assert_eq!(findings([bytes.as_bytes(), b"GET / HTTP/1.1\r\n\r\n"]), [], "{bytes:?}");
    }
}

#[test]
fn after_a_malformed_body_nothing_is_found() {
    for body in [
        "x",
        "1 1\r\n",
        "1;\n\r\na",
        "1\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "10000000000000000\r\n",
        "0\r\nA\r\r",
        "0\r\n\rA",
        // hyper would take the first line feed for the beginning of trailers.
        "0\r\n\n",
        "0\r\n\nGET / HTTP/1.1",
        "0\r\nA: b\nC: d",
    ] {
        let bytes = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        );
        assert_eq!(findings([bytes.as_bytes()]), [CLEAN], "{bytes:?}");
        assert_eq!(served_by_hyper(bytes.as_bytes()), [Some(CLEAN)], "hyper: {bytes:?}");
    }
}

#[test]
fn more_waiting_heads_than_the_limit_end_the_watch() {
    let mut watch = FramingWatch::default();
    watch.feed("GET / HTTP/1.1\r\n\r\n".repeat(MAX_WAITING_HEADS + 1).as_bytes());
    let found = std::iter::from_fn(|| watch.next_finding()).count();
    watch.feed(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!((found, watch.next_finding()), (MAX_WAITING_HEADS, None));
}

#[test]
fn a_long_body_is_skipped_in_pieces() {
    let mut watch = FramingWatch::default();
    watch.feed(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n");
    for _ in 0..100 {
        watch.feed(&[b'\n'; 1000]);
    }
    watch.feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n");
    for _ in 0..100 {
        watch.feed(&[b'\n'; 1000]);
    }
    watch.feed(b"\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!(std::iter::from_fn(|| watch.next_finding()).collect::<Vec<_>>(), [CLEAN; 3]);
}

#[test]
fn what_is_malformed_in_a_body_may_not_be_read() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (well_formed, malformed) in
        [("1\r\na\r\n0\r\n", "\n"), ("1", "x\r\na"), ("1\r\na\r\n0\r\nA: b", "\nC")]
    {
        let mut watch = FramingWatch::default();
        let bytes = [head, well_formed, malformed].concat();
        assert_eq!(watch.feed(bytes.as_bytes()), bytes.len() - malformed.len(), "{bytes:?}");
        assert_eq!(watch.feed(b"GET / HTTP/1.1\r\n\r\n"), 0, "{bytes:?}");
    }
}

#[tokio::test]
async fn only_what_is_read_is_shown_to_the_watch() {
    let (mut client, server) = tokio::io::duplex(1024);
    let (mut io, findings) = WatchedIo::new(server);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut bytes = [0; 64];
    let mut buf = ReadBuf::new(&mut bytes);
    buf.put_slice(b"GET / HTTP/1.1\n\n");
    std::future::poll_fn(|cx| Pin::new(&mut io).poll_read(cx, &mut buf)).await.unwrap();
    assert_eq!((findings.take(), findings.take()), (Some(CLEAN), None));
}

/// Pieces of requests, whole and broken, in any order.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\n",
        "POST / HTTP/1.1\n",
        "POST / HTTP/1.0\r\n",
        "Content-Length: 3\r\n",
        "content-length:\t3 \n",
        "Content-Length: 0\r\n",
        "Content-Length: 30\r\n",
        "Content-Type: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "TRANSFER-ENCODING:gzip,chunked \n",
        "Transfer-Encoding: gzip\r\n",
        "Connection: keep-alive\r\n",
        "Expect: 100-continue\r\n",
        "A: b\r\n",
        "A:\n",
        "Content-Length\n",
        "Transfer-\r\n",
        "\rContent-Length: 3\r\n",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "abc",
        "3\r\nabc\r\n",
        "a;x=y\r\n0123456789\r\n",
        "0\r\n\r\n",
        "0\r\nT: x\r\n\r\n",
        " ",
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n3;\r\n\r\n\r\r\n0\r\nA: b\r\n\r\n",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn splitting_never_changes_what_is_found(
        bytes in stream(),
        lengths in prop::collection::vec(1..8_usize, 1..64),
    ) {
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        for length in lengths {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        prop_assert_eq!(findings(pieces), findings([bytes.as_slice()]));
        prop_assert_eq!(findings(bytes.chunks(1)), findings([bytes.as_slice()]));
    }

    #[test]
    fn feeding_never_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
        findings(pieces.iter().map(Vec::as_slice));
    }

    #[test]
    fn every_request_that_hyper_serves_has_a_finding(bytes in stream()) {
        let served = served_by_hyper(&bytes);
        let found = findings([bytes.as_slice()]);
        prop_assert!(served.iter().all(Option::is_some), "{:?}: {:?}", String::from_utf8_lossy(&bytes), served);
        let served: Vec<_> = served.into_iter().flatten().collect();
        prop_assert!(found.starts_with(&served));
    }
}
