//! The classic text format 0.0.4, made of OpenMetrics text.
//!
//! The two differ in little: a counter's head names its samples as they are, with their `_total`; an info is a gauge; there is
//! no unit and no end. Samples are the same to the byte, as long as there are no exemplars, and nothing here makes any.

/// The same page in the classic format. `text` is OpenMetrics as prometheus-client writes it: a family's `# HELP`, then its
/// `# TYPE`, then its samples.
pub(super) fn from_open_metrics(text: &str) -> String {
    let mut classic = String::with_capacity(text.len() + text.len() / 16);
    let mut help = None;
    for line in text.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            push(&mut classic, &[line]);
            continue;
        };
        match comment.split_once(' ') {
            Some(("HELP", described)) => help = described.split_once(' '),
            Some(("TYPE", typed)) => {
                let (name, kind) = typed.rsplit_once(' ').unwrap_or((typed, "unknown"));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                if let Some((_, sentence)) = help.take().filter(|(described, _)| *described == name) {
                    push(&mut classic, &["# HELP ", name, suffix, " ", sentence]);
                }
                push(&mut classic, &["# TYPE ", name, suffix, " ", kind]);
            }
            // Units and the end have no place there.
            _ => {}
        }
    }
    classic
}

fn push(text: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| text.push_str(part));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::{Registry, Unit};

    use super::*;

    #[test]
    fn every_kind_of_metric_reads_as_the_classic_format_wants_it() {
        let mut registry = Registry::default();
        let requests = Family::<[(&str, &str); 1], Counter>::default();
        requests.get_or_create(&[("route", "a \"b\"\\\n# TYPE c counter")]).inc();
        registry.register("requests", "Requests that # HELP", requests);
        registry.register("build", "The build", Info::new([("version", "1")]));
        registry.register("held", "What is held", Gauge::<i64>::default());
        let took = Histogram::new([0.5]);
        took.observe(0.25);
        registry.register_with_unit("took", "How long it took", Unit::Seconds, took);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert_eq!(
            from_open_metrics(&text),
            "# HELP requests_total Requests that # HELP.\n\
             # TYPE requests_total counter\n\
             requests_total{route=\"a \\\"b\\\"\\\\\\n# TYPE c counter\"} 1\n\
             # HELP build_info The build.\n\
             # TYPE build_info gauge\n\
             build_info{version=\"1\"} 1\n\
             # HELP held What is held.\n\
             # TYPE held gauge\n\
             held 0\n\
             # HELP took_seconds How long it took.\n\
             # TYPE took_seconds histogram\n\
             took_seconds_sum 0.25\n\
             took_seconds_count 1\n\
             took_seconds_bucket{le=\"0.5\"} 1\n\
             took_seconds_bucket{le=\"+Inf\"} 1\n"
        );
    }
}
