//! Who may ask the admin listener for what. Decided here and nowhere else.
//!
//! - Health, metrics and the static page are for everybody who reaches the listener, but for what follows; the page only where
//!   its data can be had.
//! - With a token or an authority for client certificates, everything else is for those who show one.
//! - Without either, a listener on loopback lets its own machine look, metrics and the page included, by a name that is the
//!   loopback's own: a page on the web may have its own name point to 127.0.0.1 (DNS rebinding). Nothing can be changed.
//! - Without either, a listener that others can reach shows health and metrics only.
//!
//! What changes something, or is asked for with a body, is never taken from a page of another site, whatever a browser adds
//! to it by itself (a client certificate, for one).

use std::net::IpAddr;

use data_encoding::HEXLOWER;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method};

use super::problem::AdminProblem;
use super::table::Needs;
use super::token::{Token, TokenError};
use crate::server::AdminParams;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rules of one listener.
#[derive(Debug)]
pub(super) struct Access {
    token: Option<Token>,
    takes_certificates: bool,
    is_loopback: bool,
}

/// Whoever asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// The SHA-256 of the certificate that he has shown.
    pub(super) certificate: Option<[u8; 32]>,
}

/// By what he may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Nothing: it takes nothing.
    None,
    Certificate(String),
    Token,
}

impl Proof {
    /// For the audit log.
    pub(super) fn name(&self) -> String {
        match self {
            Self::None => "anybody".to_owned(),
            Self::Certificate(fingerprint) => format!("certificate {fingerprint}"),
            Self::Token => "token".to_owned(),
        }
    }
}

impl Access {
    pub(super) fn new(params: &AdminParams) -> Result<Self, TokenError> {
        let client_auth = params.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
        Ok(Self {
            token: params.token.clone().map(Token::new).transpose()?,
            takes_certificates: client_auth.is_some(),
            is_loopback: params.listen.ip().to_canonical().is_loopback(),
        })
    }

    /// By what `peer` may have what `needs` says, if he may.
    pub(super) async fn allow(&self, needs: Needs, head: &Parts, peer: &Peer) -> Result<Proof, AdminProblem> {
        let closed = AdminProblem::Closed { is_loopback: self.is_loopback };
        let asks_for_proof = self.token.is_some() || self.takes_certificates;
        if needs == Needs::Nothing {
            return Ok(Proof::None);
        }
        if head.method != Method::GET && head.method != Method::HEAD && is_cross_site(&head.headers) {
            return Err(AdminProblem::CrossSite);
        }
        if !asks_for_proof {
            return match needs {
                Needs::Metrics if !self.is_loopback => Ok(Proof::None),
                _ if !self.is_loopback => Err(closed),
                Needs::Change => Err(closed),
                _ if names_loopback(head) => Ok(Proof::None),
                Needs::Nothing | Needs::Metrics | Needs::Page | Needs::Read => Err(AdminProblem::Misdirected),
            };
        }
        if matches!(needs, Needs::Metrics | Needs::Page) {
            return Ok(Proof::None);
        }
        // With client certificates, whoever shows one has proved it to the handshake.
        if let Some(certificate) = peer.certificate.filter(|_| self.takes_certificates) {
            return Ok(Proof::Certificate(HEXLOWER.encode(&certificate)));
        }
        match (&self.token, bearer(&head.headers)) {
            (Some(token), Some(shown)) if token.is(shown).await => Ok(Proof::Token),
            _ => Err(AdminProblem::Unauthenticated { by_token: self.token.is_some() }),
        }
    }
}

/// The token of an `Authorization` field (RFC 6750 §2.1), if there is exactly one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(AUTHORIZATION).into_iter();
    let value = lines.next().filter(|_| lines.next().is_none())?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether a browser says that a page of another site had it sent (Fetch Metadata; Fetch §3.2 for those without).
fn is_cross_site(headers: &HeaderMap) -> bool {
    let is_own_site = |site: &HeaderValue| site == "same-origin" || site == "none";
    if !headers.get_all(SEC_FETCH_SITE).iter().all(is_own_site) {
        return true;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(_, origin)| Some(origin) == host)
    };
    !headers.get_all(ORIGIN).iter().all(is_own)
}

/// Whether the request names the loopback: RFC 6761 §6.3 makes `localhost` nobody else's, and numbers need no lookup.
fn names_loopback(head: &Parts) -> bool {
    let mut lines = head.headers.get_all(HOST).into_iter();
    let host = lines.next().filter(|_| lines.next().is_none()).and_then(|host| host.to_str().ok());
    let is_loopback = |authority: &str| {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host();
        host.eq_ignore_ascii_case("localhost")
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    };
    host.is_some_and(is_loopback) && head.uri.authority().is_none_or(|target| is_loopback(target.as_str()))
}
