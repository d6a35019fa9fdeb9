//! What every answer is given on its way out, whoever made it.
//!
//! Everything here belongs to the request that is answered and to the route as it is now, never to what is stored: a replay
//! carries this request's id and this request's origin, and looks like the first answer in all else.

use http::header::{HeaderMap, HeaderValue, ORIGIN};
use http::{Response, request::Parts};

use super::body::ReplyBody;
use super::correlation::X_REQUEST_ID;
use super::grpc::GrpcStatus;
use super::policy::Route;
use super::{cors, grpc, headers};

/// Marks an answer of our own, in its extensions: a route's `response_headers` are for the upstream's.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// What a gRPC client gets instead; `None` if it is no problem.
    pub grpc: Option<GrpcStatus>,
}

/// What the answer to one request is given.
#[derive(Debug)]
pub struct Finish<'a> {
    request_id: Option<HeaderValue>,
    /// Only of a gRPC request.
    grpc: Option<HeaderValue>,
    /// Only if the route has a say.
    route: Option<&'a Route>,
    origin: Option<HeaderValue>,
}

impl<'a> Finish<'a> {
    /// For a request with these fields and this id.
    #[must_use]
    pub fn new(fields: &HeaderMap, request_id: Option<HeaderValue>) -> Self {
        Self { request_id, grpc: grpc::media_type(fields), route: None, origin: None }
    }

    /// For a request that this route serves.
    pub fn on(&mut self, route: &'a Route, parts: &Parts) {
        if route.cors.is_some() || !route.response_headers.is_empty() {
            self.route = Some(route);
            self.origin = parts.headers.get(ORIGIN).cloned();
        }
    }

    /// Gives `response` what it is to have.
    pub fn apply(self, response: &mut Response<ReplyBody>) {
        if let Some(route) = self.route {
            self.apply_route(route, response);
        }
        if let Some(media_type) = self.grpc
            && let Some(Ours { grpc: Some(status) }) = response.extensions().get::<Ours>().copied()
        {
            status.write(response, media_type);
        }
        if let Some(id) = self.request_id {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
    }

    fn apply_route(&self, route: &Route, response: &mut Response<ReplyBody>) {
        let is_ours = response.extensions().get::<Ours>().is_some();
        let fields: &mut HeaderMap = response.headers_mut();
        if !is_ours {
            headers::change(fields, &route.response_headers);
        }
        if let Some(cors) = &route.cors {
            let also_exposed = route.guard.as_ref().and_then(|policy| policy.expires_header.as_ref());
            cors::complete(fields, cors, self.origin.as_ref(), also_exposed);
        }
    }
}
