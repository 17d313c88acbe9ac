// A line chart that goes on: the last minutes of one or two series, drawn anew when a value comes. With words beside, for who does
// not see it.

import { h } from "./dom.js";

const KEPT = 120;

export class Chart {
  /** `names` of its series; `format` makes words of a value; `least` is the smallest height of its scale. */
  constructor(title, names, format, least) {
    this.least = least;
    this.series = names.map(() => []);
    this.names = names;
    this.format = format;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.words = h("p.now", {});
    this.element = h("section.chart", {}, h("h3", {}, title), this.words, this.canvas);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas);
  }

  add(values) {
    values.forEach((value, at) => {
      this.series[at].push(value);
      if (this.series[at].length > KEPT) this.series[at].shift();
    });
    this.words.replaceChildren(...this.names.map((name, at) => h("span", { class: `series${at}` },
      `${name} ${this.format(values[at])}`)));
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    if (!width || !height) return;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    const top = Math.max(...this.series.flat(), this.least) * 1.1;
    pen.scale(ratio, ratio);
    pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui";
    pen.fillStyle = style.getPropertyValue("--quiet");
    pen.strokeStyle = style.getPropertyValue("--line");
    for (const part of [0.5, 1]) {
      const y = Math.round(height - 2 - (height - 16) * part / 1.1) + 0.5;
      pen.beginPath();
      pen.moveTo(0, y);
      pen.lineTo(width, y);
      pen.stroke();
      pen.fillText(this.format(top * part / 1.1), 2, y - 3);
    }
    this.series.forEach((values, index) => {
      pen.beginPath();
      pen.lineWidth = 2;
      pen.strokeStyle = style.getPropertyValue(`--series${index}`);
      values.forEach((value, at) => {
        const x = width - (values.length - 1 - at) * (width / (KEPT - 1));
        const y = height - 2 - (height - 16) * (value / top);
        if (at) pen.lineTo(x, y); else pen.moveTo(x, y);
      });
      pen.stroke();
    });
  }

  close() { this.observer.disconnect(); }
}
