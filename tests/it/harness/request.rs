//! Requests as a client writes them.

/// A request in the making. What is not said is what most clients send.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Whole(Vec<u8>),
    Chunked { chunks: Vec<Vec<u8>>, trailers: Vec<(String, String)> },
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        let host = ("Host".to_owned(), b"api.test".to_vec());
        Self { method: method.to_owned(), target: target.to_owned(), fields: vec![host], body: Body::None }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    /// A guarded request as every test sends it: a charge of ten under this key.
    pub fn charge(key: &str) -> Self {
        Self::post("/v1/charges").key(key).json(r#"{"amount":10}"#)
    }

    pub fn method(self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self }
    }

    pub fn key(self, key: &str) -> Self {
        self.field("Idempotency-Key", key)
    }

    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Takes a field away, `Host` included.
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self
    }

    pub fn host(self, host: &str) -> Self {
        self.without("host").field("Host", host)
    }

    pub fn bearer(self, token: &str) -> Self {
        self.field("Authorization", format!("Bearer {token}"))
    }

    pub fn json(self, body: &str) -> Self {
        self.without("content-type").field("Content-Type", "application/json").body(body)
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Body::Whole(body.as_ref().to_vec());
        self
    }

    pub fn chunked(mut self, chunks: &[&str]) -> Self {
        let chunks = chunks.iter().map(|chunk| chunk.as_bytes().to_vec()).collect();
        self.body = Body::Chunked { chunks, trailers: Vec::new() };
        self
    }

    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        if let Body::Chunked { trailers, .. } = &mut self.body {
            trailers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The head alone, its framing fields included.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.fields {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        match &self.body {
            Body::None => {}
            Body::Whole(body) => {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
            }
            Body::Chunked { .. } => bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// The body as it is framed.
    pub fn body_bytes(&self) -> Vec<u8> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Whole(body) => body.clone(),
            Body::Chunked { chunks, trailers } => {
                let mut bytes: Vec<u8> = chunks.iter().flat_map(|data| chunk(data)).collect();
                bytes.extend_from_slice(&last_chunk(trailers));
                bytes
            }
        }
    }

    /// The body without its framing.
    pub fn body_data(&self) -> Vec<u8> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Whole(body) => body.clone(),
            Body::Chunked { chunks, .. } => chunks.concat(),
        }
    }

    /// The head as HTTP/2 has it: `Host` is the authority. A whole body has its length told.
    pub fn http2(&self) -> http::Request<()> {
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let host = self.fields.iter().find(|(name, _)| is_host(name)).map(|(_, value)| value.as_slice());
        let host = String::from_utf8_lossy(host.expect("a host"));
        let uri = format!("http://{host}{}", self.target);
        let mut request = http::Request::builder().method(self.method.as_str()).uri(uri);
        for (name, value) in self.fields.iter().filter(|(name, _)| !is_host(name)) {
            request = request.header(name, value.as_slice());
        }
        if let Body::Whole(body) = &self.body {
            request = request.header("content-length", body.len());
        }
        request.body(()).expect("a request")
    }

    pub fn bytes(&self) -> Vec<u8> {
        [self.head_bytes(), self.body_bytes()].concat()
    }
}

/// One chunk of a chunked body.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// The end of a chunked body.
pub fn last_chunk(trailers: &[(String, String)]) -> Vec<u8> {
    let mut bytes = b"0\r\n".to_vec();
    for (name, value) in trailers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
