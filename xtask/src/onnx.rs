//! Writes `examples/models/rate_mean.onnx`, the example of a rate model, as ONNX protobuf.
//!
//! The contract of input and output is in `docs/models.md`. The model forecasts the mean of the rates that it is shown,
//! weighted by 0.95 for each 30 s of age, and claims 1.25 times their weighted mean deviation (the sigma of a normal
//! distribution), plus 20 ppb. Only sums, products and quotients make the numbers, so that the file is the same wherever
//! it is written.

/// Where the model is, from the root of the repository.
pub(crate) const FILE: &str = "examples/models/rate_mean.onnx";

const ROWS: usize = 64;
const COLUMNS: u64 = 4;
const WEIGHT_PER_ROW: f64 = 0.95;
const SIGMA_PER_DEVIATION: f32 = 1.25;
const SIGMA_FLOOR_PPB: f32 = 20.0;

/// Numbers of ONNX: the format, the set of operators, and kinds of elements.
const IR_VERSION: u64 = 7;
const OPERATOR_SET: u64 = 13;
const FLOAT: u64 = 1;
const INT64: u64 = 7;
const ATTRIBUTE_INT: u64 = 2;

/// A message of protobuf, field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn number(mut self, field: u64, n: u64) -> Self {
        self.varint(field << 3);
        self.varint(n);
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u64, inner: &Self) -> Self {
        self.bytes(field, &inner.0)
    }
}

/// A constant: NAME, dimensions, and its elements in little-endian bytes.
fn tensor(name: &str, kind: u64, dims: &[u64], raw: &[u8]) -> Message {
    let with_dims = dims.iter().fold(Message::default(), |m, &n| m.number(1, n));
    with_dims.number(2, kind).text(8, name).bytes(9, raw)
}

fn floats(name: &str, dims: &[u64], values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, FLOAT, dims, &raw)
}

/// An input or output of the graph: float32 of that shape.
fn value(name: &str, dims: &[u64]) -> Message {
    let shape = dims.iter().fold(Message::default(), |m, &n| m.message(1, &Message::default().number(1, n)));
    let kind = Message::default().number(1, FLOAT).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &kind))
}

/// A node; all of ours have one output.
fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let with_inputs = inputs.iter().fold(Message::default(), |m, i| m.text(1, i));
    with_inputs.text(2, output).text(3, output).text(4, operator)
}

/// The file.
pub(crate) fn model() -> Vec<u8> {
    let mut weights = vec![1.0_f64; ROWS];
    for i in (0..ROWS - 1).rev() {
        weights[i] = weights[i + 1] * WEIGHT_PER_ROW;
    }
    let total: f64 = weights.iter().sum();
    let weights: Vec<f32> = weights.iter().map(|w| (w / total) as f32).collect();

    let constants = [
        // The first column.
        floats("rate_column", &[COLUMNS, 1], &[1.0, 0.0, 0.0, 0.0]),
        floats("weights", &[1, ROWS as u64], &weights),
        floats("sigma_per_deviation", &[1], &[SIGMA_PER_DEVIATION]),
        floats("sigma_floor_ppb", &[1], &[SIGMA_FLOOR_PPB]),
        tensor("output_shape", INT64, &[2], &[1_i64, 2].map(i64::to_le_bytes).concat()),
    ];
    let axis = Message::default().text(1, "axis").number(3, 2).number(20, ATTRIBUTE_INT);
    let nodes = [
        node("MatMul", &["observations", "rate_column"], "rates"),
        node("MatMul", &["weights", "rates"], "mean"),
        node("Sub", &["rates", "mean"], "residuals"),
        node("Abs", &["residuals"], "deviations"),
        node("MatMul", &["weights", "deviations"], "deviation"),
        node("Mul", &["deviation", "sigma_per_deviation"], "scatter"),
        node("Add", &["scatter", "sigma_floor_ppb"], "sigma"),
        node("Log", &["sigma"], "log_sigma"),
        node("Concat", &["mean", "log_sigma"], "both").message(5, &axis),
        node("Reshape", &["both", "output_shape"], "forecast"),
    ];
    let graph = nodes.iter().fold(Message::default(), |m, n| m.message(1, n)).text(2, "rate_mean");
    let graph = constants.iter().fold(graph, |m, c| m.message(5, c));
    let graph = graph
        .message(11, &value("observations", &[1, ROWS as u64, COLUMNS]))
        .message(12, &value("forecast", &[1, 2]));
    let file = Message::default()
        .number(1, IR_VERSION)
        .text(2, "cargo xtask gen")
        .text(6, "An example of a rate model for chronotick-daemon: the weighted mean of the last rates.")
        .message(7, &graph)
        .message(8, &Message::default().text(1, "").number(2, OPERATOR_SET));
    file.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_format_is_that_of_protobuf() {
        // The examples of protobuf's own documentation.
        assert_eq!(Message::default().number(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().text(2, "testing").0, b"\x12\x07testing");
        let inner = Message::default().number(1, 150);
        assert_eq!(Message::default().message(3, &inner).0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
    }
}
