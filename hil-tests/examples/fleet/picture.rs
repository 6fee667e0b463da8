//! The picture: gateways connected, and the load of the busiest node, for two policies, as SVG.

use crate::policies::as_f64;
use crate::seen::Seen;
use crate::sim::{Run, simulate};

const COLOURS: [&str; 2] = ["#c0392b", "#1f6f8b"];
const WIDTH: f64 = 370.0;
const HEIGHT: f64 = 190.0;
/// Seconds shown of the connections, and of the load.
const SHOWN: [f64; 2] = [90.0, 900.0];
/// The axis of the load is logarithmic, from a hundredth to a hundred.
const DECADES: f64 = 4.0;

/// Simulates both and draws them.
pub(crate) fn draw(runs: &[Run; 2]) -> String {
    let seen = runs.map(|run| (run, simulate(run)));
    let mut lines = [String::new(), String::new()];
    let mut legend = String::new();
    for (index, ((run, seen), colour)) in seen.iter().zip(COLOURS).enumerate() {
        lines[0] += &line(colour, &connected(run, seen));
        lines[1] += &line(colour, &load(run, seen));
        let y = 16 + 16 * index;
        legend += &format!("<text x=\"54\" y=\"{y}\" fill=\"{colour}\">{}</text>\n", run.policy.name);
    }
    let gateways = runs[0].fleet.gateways;
    let all = [(1.0, format!("{gateways}")), (0.5, format!("{}", gateways / 2)), (0.0, "0".to_owned())];
    let decades =
        [(1.0, "100"), (0.75, "10"), (0.5, "1"), (0.25, "0.1"), (0.0, "0.01")].map(|(y, text)| (y, text.to_owned()));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 880 290\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"880\" height=\"290\" fill=\"white\"/>\n{legend}{}{}</svg>\n",
        panel(54.0, "gateways connected, by seconds after the return", SHOWN[0], &all, &lines[0]),
        panel(494.0, "load of the busiest node (1 = all it can do), by seconds", SHOWN[1], &decades, &lines[1]),
    )
}

fn panel(x: f64, title: &str, shown: f64, marks: &[(f64, String)], lines: &str) -> String {
    let mut out = format!("<g transform=\"translate({x},60)\">\n<text x=\"0\" y=\"-8\">{title}</text>\n");
    for (y, text) in marks {
        let y = HEIGHT * (1.0 - y);
        out += &format!(
            "<path d=\"M0 {y}H{WIDTH}\" stroke=\"#ddd\"/><text x=\"-6\" y=\"{}\" text-anchor=\"end\">{text}</text>\n",
            y + 4.0
        );
    }
    for part in [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0] {
        let below = HEIGHT + 18.0;
        out += &format!(
            "<text x=\"{:.0}\" y=\"{below}\" text-anchor=\"middle\">{:.0}</text>\n",
            WIDTH * part,
            shown * part
        );
    }
    out + lines + "</g>\n"
}

/// Draws points of 0..1 both ways.
fn line(colour: &str, points: &[(f64, f64)]) -> String {
    let points: Vec<_> = points
        .iter()
        .map(|(x, y)| format!("{:.1},{:.1}", x.clamp(0.0, 1.0) * WIDTH, (1.0 - y.clamp(0.0, 1.0)) * HEIGHT))
        .collect();
    format!("<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\n", points.join(" "))
}

/// Samples the connections three times a second.
fn connected(run: &Run, seen: &Seen) -> Vec<(f64, f64)> {
    let samples = 3.0 * SHOWN[0];
    let at = |time: f64| {
        let before = seen.connected.partition_point(|(at, _)| at.seconds() <= time);
        before.checked_sub(1).and_then(|place| seen.connected.get(place)).map_or(0, |&(_, online)| online)
    };
    let mut points = Vec::new();
    let mut sample = 0.0;
    while sample <= samples {
        points.push((sample / samples, as_f64(at(sample / 3.0)) / as_f64(run.fleet.gateways)));
        sample += 1.0;
    }
    points
}

fn load(run: &Run, seen: &Seen) -> Vec<(f64, f64)> {
    let handshakes = seen.handshake_load(run.cluster.handshakes_per_s);
    let place = |load: f64| (load.max(1e-2).log10() + 2.0) / DECADES;
    let shown = seen.steps.iter().take_while(|step| step.at.seconds() <= SHOWN[1]);
    let mut points = Vec::new();
    for (second, step) in shown.enumerate() {
        let of_handshakes = if step.seconds < 2.0 { handshakes.get(second).copied().unwrap_or(0.0) } else { 0.0 };
        points.push((step.at.seconds() / SHOWN[1], place(step.load.max(of_handshakes))));
    }
    points
}
