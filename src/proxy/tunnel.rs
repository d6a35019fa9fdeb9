//! Two connections joined after a protocol switch (RFC 9110 §7.8): WebSocket and its kin.
//!
//! No byte crosses before the upstream has answered 101. A tunnel keeps its client's place among the connections. It is no
//! guarded work: shutdown does not wait for it.

use std::sync::Arc;

use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{Request, Response, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::Client;
use super::body::{ReplyBody, WholeBody};
use super::headers::{self, Protected};
use super::upstream::UpstreamBody;

/// The client's connection, as it will be once the switch is answered.
#[must_use]
pub fn upgrade(parts: &mut Parts) -> OnUpgrade {
    let mut request = Request::new(());
    std::mem::swap(request.extensions_mut(), &mut parts.extensions);
    hyper::upgrade::on(&mut request)
}

/// Answers the client's switch with the upstream's, and joins the two connections until one ends.
#[must_use]
pub fn join(
    downstream: OnUpgrade,
    mut response: Response<UpstreamBody>,
    protected: &Protected,
    client: Arc<Client>,
) -> Response<ReplyBody> {
    let upstream = hyper::upgrade::on(&mut response);
    let protocol = response.headers().get(UPGRADE).cloned();
    let (mut parts, _) = response.into_parts();
    headers::to_client(&mut parts.headers, false, protected);
    headers::via(&mut parts.headers, Version::HTTP_11);
    if let Some(protocol) = protocol {
        parts.headers.insert(CONNECTION, http::HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, protocol);
    }
    parts.extensions.clear();
    let tunnel = async move {
        let (Ok(downstream), Ok(upstream)) = tokio::join!(downstream, upstream) else { return };
        let ended = copy_bidirectional(&mut TokioIo::new(downstream), &mut TokioIo::new(upstream)).await;
        drop(client);
        debug!(ended = ?ended.map_err(|error| error.kind()), "a tunnel ended");
    };
    drop(TaskTracker::new().spawn(tunnel));
    Response::from_parts(parts, ReplyBody::Whole(WholeBody::default()))
}
