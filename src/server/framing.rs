//! stub
pub struct Found {
    pub length_and_transfer_encoding: bool,
    pub bare_line_feed: bool,
}
pub struct SharedWatch;
impl SharedWatch {
    pub fn next_head(&self) -> Found {
        Found { length_and_transfer_encoding: false, bare_line_feed: false }
    }
}
pub struct WatchedIo;
impl WatchedIo {
    pub fn new(s: tokio::net::TcpStream) -> (tokio::net::TcpStream, SharedWatch) {
        (s, SharedWatch)
    }
}
