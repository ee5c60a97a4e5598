//! A canvas of pixels for plots, with a built-in font, and its encoding as PNG.

use font8x8::UnicodeFonts;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind};
use std::convert::Infallible;

/// Width and height of a glyph.
const GLYPH: i32 = 8;
/// Font sizes from this one on are drawn with pixels of two by two.
const LARGE_FONT: f64 = 18.0;

/// See the module; white at first.
pub(crate) struct Bitmap<'a> {
    width: u32,
    height: u32,
    rgb: &'a mut [u8],
}

/// Bytes of a canvas.
pub(crate) fn buffer((width, height): (u32, u32)) -> Vec<u8> {
    vec![255; width as usize * height as usize * 3]
}

/// A canvas as a PNG file.
pub(crate) fn png((width, height): (u32, u32), rgb: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(rgb)?;
        writer.finish()
    });
    written.map_err(|e| format!("cannot encode the plot as PNG: {e}"))?;
    Ok(bytes)
}

impl<'a> Bitmap<'a> {
    /// Draws into `rgb`, which [`buffer`] made.
    pub(crate) fn new((width, height): (u32, u32), rgb: &'a mut [u8]) -> Self {
        Self { width, height, rgb }
    }

    fn blend(&mut self, (x, y): BackendCoord, color: BackendColor) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        if x >= self.width || y >= self.height {
            return;
        }
        let start = (y as usize * self.width as usize + x as usize) * 3;
        let (r, g, b) = color.rgb;
        for (old, new) in self.rgb.iter_mut().skip(start).zip([r, g, b]) {
            *old = (f64::from(*old) * (1.0 - color.alpha) + f64::from(new) * color.alpha).round() as u8;
        }
    }
}

fn scale<S: BackendTextStyle>(style: &S) -> i32 {
    if style.size() < LARGE_FONT { 1 } else { 2 }
}

fn size<S: BackendTextStyle>(text: &str, style: &S) -> (i32, i32) {
    let scale = scale(style);
    (text.chars().count() as i32 * GLYPH * scale, GLYPH * scale)
}

impl DrawingBackend for Bitmap<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn draw_pixel(
        &mut self,
        point: BackendCoord,
        color: BackendColor,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        self.blend(point, color);
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        let (width, height) = size(text, style);
        let left = match style.anchor().h_pos {
            HPos::Left => x,
            HPos::Right => x - width,
            HPos::Center => x - width / 2,
        };
        let top = match style.anchor().v_pos {
            VPos::Top => y,
            VPos::Bottom => y - height,
            VPos::Center => y - height / 2,
        };
        let scale = scale(style);
        for (c, left) in text.chars().zip((left..).step_by((GLYPH * scale) as usize)) {
            let glyph = font8x8::BASIC_FONTS.get(c).unwrap_or_default();
            for dy in 0..height {
                let row = glyph.get((dy / scale) as usize).copied().unwrap_or(0);
                for dx in (0..GLYPH * scale).filter(|dx| row >> (dx / scale) & 1 == 1) {
                    self.blend((left + dx, top + dy), style.color());
                }
            }
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let (width, height) = size(text, style);
        Ok((width.unsigned_abs(), height.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_outside_are_ignored_and_colours_blend() {
        let size = (2, 2);
        let mut rgb = buffer(size);
        let mut bitmap = Bitmap::new(size, &mut rgb);
        let color = BackendColor { alpha: 0.5, rgb: (0, 55, 255) };
        for point in [(-1, 0), (0, -1), (2, 0), (0, 2), (1, 1)] {
            bitmap.draw_pixel(point, color).unwrap();
        }
        assert_eq!(rgb, [255, 255, 255, 255, 255, 255, 255, 255, 255, 128, 155, 255]);
        let file = png(size, &rgb).unwrap();
        assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
    }
}
