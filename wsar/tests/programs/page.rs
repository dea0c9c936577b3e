//! The page in a browser.

use crate::browser::Browser;
use crate::serve::serve;
use crate::support::output;

/// Notes what is written on canvases, with where.
const NOTES: &str = "window.written = []; const fill = CanvasRenderingContext2D.prototype.fillText;\
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {\
      if (/^\\d\\d:\\d\\d(:\\d\\d)?$/.test(text)) written.push([text, x, this.canvas.width]); fill.call(this, text, x, y); }";

#[test]
fn labels_of_a_dragged_range_stand_where_their_times_are() {
    let data = tempfile::tempdir().unwrap();
    output(data.path(), &["record", "--every", "0.1", "--count", "20"]);
    let (_running, address) = serve(data.path());
    let Some(mut browser) = Browser::open(data.path(), (1280, 900)) else { return };
    browser.go(&format!("http://{address}/"));
    browser.wait("document.querySelectorAll('.chart canvas').length > 5 && document.getElementById('chart-cpu').querySelector('.u-over')");
    browser.value("document.getElementById('chart-cpu').scrollIntoView({block: 'center'})");
    let place = "(() => { const r = document.querySelector('#chart-cpu .u-over').getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; })()";
    let place = browser.value(place);
    let number = |n: usize| place[n].as_f64().unwrap();
    let y = number(1) + number(3) / 2.0;
    // Fractions of the width that are no whole seconds.
    let (begin, end) = (number(0) + number(2) * 0.313, number(0) + number(2) * 0.777);
    browser.mouse("mouseMoved", (begin, y));
    browser.mouse("mousePressed", (begin, y));
    browser.mouse("mouseMoved", ((begin + end) / 2.0, y));
    browser.mouse("mouseMoved", (end, y));
    browser.value(NOTES);
    browser.mouse("mouseReleased", (end, y));
    browser.wait("location.hash.includes('from=') && !document.body.classList.contains('waiting') && written.length > 3");
    // uPlot's own padding and axis, as in charts.js.
    let early = "(() => { const hash = new URLSearchParams(location.hash.slice(1)); const from = +hash.get('from'), to = +hash.get('to');\
        return written.filter(([text, x, width]) => {\
          const area = width - 58 - 20; const d = new Date(from + (x - 58) / area * (to - from)); const [h, m, s] = text.split(':').map(Number);\
          const at = new Date(d); at.setHours(h, m, s ?? 0, 0); return Math.abs(at - d) > (to - from) / area * 2; }).join(' '); })()";
    assert_eq!(browser.value(early), "");
    assert_eq!(
        browser.value(
            "['from', 'to'].map((n) => new URLSearchParams(location.hash.slice(1)).get(n) % 1000).join()"
        ),
        "0,0"
    );

    // The pointer shows the time, and the lines in the order of their values.
    browser.go(&format!("http://{address}/#live=300"));
    browser.wait("location.hash === '#live=300'");
    browser.wait("document.querySelectorAll('#chart-cpu .key b')[0].textContent.includes('%')");
    let x = number(0) + number(2) - 1.0;
    let told = "(() => { const t = document.querySelector('#chart-cpu .tooltip'); return t && !t.hidden && t.querySelector('caption').textContent; })()";
    browser.mouse("mouseMoved", (x - 3.0, y));
    browser.mouse("mouseMoved", (x, y));
    let time = browser.wait(told);
    assert_eq!(time.as_str().unwrap().matches(':').count(), 2, "{time}");
    let sorted = "(() => { const v = [...document.querySelectorAll('#chart-cpu .tooltip tbody tr')].map((r) => parseFloat(r.children[1].textContent));\
        return v.length > 3 && v.every((n, i) => i === 0 || !(v[i - 1] < n)); })()";
    assert_eq!(browser.value(sorted), true);
}
