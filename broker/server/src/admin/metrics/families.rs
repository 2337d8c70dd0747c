//! How families of metrics are written.

use super::{HistogramSnapshot, Labelled};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::borrow::Cow;
use std::fmt;

/// Writes metric families. Counters are named without `_total`, which the encoder appends.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(gauge_value(value)).encode(encoder)
    }

    pub(super) fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            ConstGauge::new(gauge_value(value)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub(super) fn by_qos(&mut self, name: &str, help: &str, counts: [u64; 3]) -> fmt::Result {
        let rows = ["0", "1", "2"].into_iter().zip(counts);
        self.counters(name, help, rows.map(|(qos, count)| ([("qos", qos)], count)))
    }

    pub(super) fn by_label(&mut self, name: &str, help: &str, key: &'static str, counts: &Labelled) -> fmt::Result {
        self.counters(
            name,
            help,
            counts.iter().map(|(value, count)| ([(key, *value)], *count)),
        )
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, unit: &Unit, times: &HistogramSnapshot) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, Some(unit), MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(times.sum_s, times.count(), &times.all_buckets(), None)
    }

    pub(super) fn histograms<'s, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: &Unit,
        rows: impl Iterator<Item = (L, &'s HistogramSnapshot)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, Some(unit), MetricType::Histogram)?;
        for (labels, times) in rows {
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(times.sum_s, times.count(), &times.all_buckets(), None)?;
        }
        Ok(())
    }
}

/// The encoder fails a whole scrape on a gauge it cannot hold in an `i64`.
fn gauge_value(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn label<'a>(key: &'static str, value: &'a str) -> (&'static str, Cow<'a, str>) {
    (key, escape_label(value))
}

/// The encoder writes label values as they are, and a plugin chooses the names of its counters: without this one of them could
/// forge any sample.
pub(super) fn escape_label(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return value.into();
    }
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
        .into()
}
