//! Pen strokes for the picture: rectangles, labels, and texts and numbers made
//! to fit. SVG cannot be asked how wide a text is, so widths are estimates that
//! err on the wide side. What is drawn where lives in `svg`.

use std::fmt::Write as _;

/// Appends a rectangle; a negative width draws nothing.
pub(crate) fn rect(out: &mut String, attributes: &str, x: f64, y: f64, width: f64, height: f64) {
    let _ = write!(
        out,
        "<rect {attributes} x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
        width.max(0.0),
    );
}

/// Appends a text; `anchor` is SVG's text-anchor.
pub(crate) fn label(out: &mut String, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
    let _ = write!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escape(text),
    );
}

/// 1, 2 or 5 times a power of ten, not below the wanted step.
pub(crate) fn nice_step(wanted: f64) -> f64 {
    let wanted = if wanted > 0.0 { wanted } else { 1.0 };
    let power = 10_f64.powf(wanted.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= wanted);
    factor.unwrap_or(10.0) * power
}

/// A number for an axis.
pub(crate) fn number(value: f64) -> String {
    // Enough decimals for any step, no trailing zeros.
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A power of ten milliseconds for an axis.
pub(crate) fn power_of_ten(power: f64) -> String {
    if power >= 3.0 {
        format!("{}s", number(10_f64.powf(power - 3.0)))
    } else {
        format!("{}ms", number(10_f64.powf(power)))
    }
}

/// An estimate that errs on the wide side; SVG cannot be asked.
pub(crate) fn text_width(text: &str, per_letter: f64) -> f64 {
    text.chars().count() as f64 * per_letter
}

/// Cuts a text to a width, with an ellipsis if anything is missing.
pub(crate) fn fit(text: &str, width: f64, per_letter: f64) -> String {
    if text_width(text, per_letter) <= width {
        return text.to_owned();
    }
    let room = (width / per_letter) as usize;
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    if room > 0 {
        cut.push('…');
    }
    cut
}

/// A phase label in at most two lines.
pub(crate) fn wrap(text: &str, width: f64) -> Vec<String> {
    const LETTER: f64 = 7.0;
    if text_width(text, LETTER) <= width {
        return vec![text.to_owned()];
    }
    let split = text
        .match_indices(' ')
        .map(|(index, _)| index)
        .min_by_key(|index| index.abs_diff(text.len() / 2));
    match split {
        Some(index) => {
            let (first, second) = text.split_at(index);
            vec![fit(first, width, LETTER), fit(second.trim_start(), width, LETTER)]
        }
        None => vec![fit(text, width, LETTER)],
    }
}

/// Text from outside inside an SVG: markup and control characters removed.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_cut_to_their_room() {
        assert_eq!(wrap("calm", 100.0), ["calm"]);
        assert_eq!(wrap("primary hangs", 60.0), ["primary", "hangs"]);
        assert_eq!(wrap("unsplittable", 50.0), ["unspli…"]);
        assert_eq!(fit("abc", 0.0, 6.0), "");
        assert_eq!(number(0.25), "0.25");
        assert_eq!(number(2000.0), "2000");
        assert_eq!(power_of_ten(-1.0), "0.1ms");
        assert_eq!(power_of_ten(4.0), "10s");
        let steps = [0.7, 1.0, 3.0, 60.0, 0.0].map(nice_step);
        assert_eq!(steps, [1.0, 1.0, 5.0, 100.0, 1.0]);
    }
}
