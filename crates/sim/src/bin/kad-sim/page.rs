//! The HTML report: one file without any other resources.

use std::error::Error;
use std::fmt::Write as _;

use libp2p_kad_dht_sim::{Outcome, Plot, Scenario};
use plotters::prelude::*;

use crate::tables::rows;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}\
td:first-child,th:first-child{text-align:left}.ok{color:#176b2c}.miss{color:#a11}svg{max-width:100%;height:auto}";

/// The page as HTML text.
pub(crate) fn make(scenario: &Scenario, outcome: &Outcome) -> Result<String, Box<dyn Error>> {
    let mut html = String::new();
    let title = format!("{}: {} nodes, seed {}", outcome.scenario, outcome.nodes, outcome.seed);
    write!(html, "<!doctype html><html lang=en><meta charset=utf-8><title>{}</title>", escape(&title))?;
    write!(html, "<style>{STYLE}</style><h1>{}</h1><p>{}. ", escape(&title), escape(scenario.about))?;
    write!(html, "After: {}.</p>", escape(scenario.paper))?;
    let (class, verdict) = if outcome.pass() { ("ok", "passed") } else { ("miss", "not passed") };
    write!(html, "<p class={class}><strong>{verdict}</strong>")?;
    html.push_str(if outcome.interrupted { " (ended early)</p>" } else { "</p>" });
    html.push_str("<table><tr><th>metric<th>stock<th>ours<th>published");
    for [name, stock, ours, published] in rows(outcome) {
        write!(html, "<tr><td>{}<td>{stock}<td>{ours}<td>{published}", escape(&name))?;
    }
    html.push_str("</table><table><tr><th>condition<th>reached<th>");
    for check in &outcome.checks {
        let (class, word) = if check.pass { ("ok", "ok") } else { ("miss", "missed") };
        write!(html, "<tr><td>{}<td>{}<td class={class}>{word}", escape(&check.what), escape(&check.reached))?;
    }
    html.push_str("</table>");
    for invariant in &outcome.broken_invariants {
        write!(html, "<p class=miss>Broken invariant: {}</p>", escape(invariant))?;
    }
    for plot in outcome.plots.iter().filter(|plot| plot.curves.iter().any(|(_, points)| !points.is_empty())) {
        html.push_str(&draw(plot)?);
    }
    for note in &outcome.notes {
        write!(html, "<p>{}</p>", escape(note))?;
    }
    html.push_str("</html>\n");
    Ok(html)
}

fn draw(plot: &Plot) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (860, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let points = || plot.curves.iter().flat_map(|(_, points)| points);
        let bounds = |pick: fn(&(f64, f64)) -> f64| {
            let (low, high) = points().map(pick).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
            if high > low { low..high } else { low - 0.5..low + 0.5 }
        };
        let mut chart = ChartBuilder::on(&area)
            .caption(&plot.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(bounds(|point| point.0), bounds(|point| point.1))?;
        chart.configure_mesh().x_desc(&plot.x).y_desc(&plot.y).light_line_style(WHITE.mix(0.0)).draw()?;
        for (i, (name, points)) in plot.curves.iter().enumerate() {
            let style = Palette99::pick(i).stroke_width(2);
            let line = LineSeries::new(points.iter().copied(), style);
            chart.draw_series(line)?.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        let mut labels = chart.configure_series_labels();
        labels.background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
        area.present()?;
    }
    Ok(svg)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
