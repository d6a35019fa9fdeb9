use http::HeaderMap;
use http_body_util::BodyExt;
use tokio::time::sleep;

use super::*;
use crate::proxy::body::WholeBody;

fn body(length: usize) -> Http2Body {
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
    Http2Body::new(ReplyBody::Whole(WholeBody::new(data.into(), HeaderMap::new())))
}

#[tokio::test]
async fn a_body_is_the_same_in_pieces() {
    for length in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 100_000] {
        let mut pieces = body(length);
        let mut gathered = Vec::new();
        while let Some(frame) = pieces.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= PIECE_BYTES);
            gathered.extend_from_slice(&data);
            assert_eq!(pieces.is_end_stream(), gathered.len() == length);
        }
        assert_eq!(gathered, body(length).collect().await.unwrap().to_bytes(), "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_time_that_a_client_takes_nothing_counts() {
    let max_stall = Duration::from_secs(10);
    let patient = async {
        // The proxy takes its time.
        sleep(5 * max_stall).await;
        let mut body = body(3 * PIECE_BYTES);
        while body.frame().await.is_some() {
            // The client takes some.
            sleep(max_stall / 2).await;
        }
    };
    let begun = Instant::now();
    attend(patient, max_stall).await;
    assert!(begun.elapsed() >= 6 * max_stall, "it ran to its end");

    let deaf = async {
        drop(body(3 * PIECE_BYTES).frame().await);
        std::future::pending::<()>().await;
    };
    let begun = Instant::now();
    attend(deaf, max_stall).await;
    assert!(begun.elapsed() >= max_stall && begun.elapsed() < 2 * max_stall);
}
