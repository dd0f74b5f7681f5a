package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strings"
)

// Plot is a line or scatter plot.
type Plot struct {
	Title          string
	XLabel, YLabel string
	Series         []Series
	ZeroLine       bool    // draw y = YLine
	YLine          float64 // height of a reference line, named YLineName
	YLineName      string
	Marks          []Series // single points drawn large with their name: before, retrained
}

// Series is one line of points. Class names its colour in report.css.
type Series struct {
	Name, Class string
	Points      []Point
	Dots        bool // points without a line
	Faint       bool // one of several seeds
}

// Point is one point and the text shown when the pointer rests on it.
type Point struct {
	X, Y float64
	Text string
}

// canvas is the drawing area with its scales.
type canvas struct {
	b                        strings.Builder
	w, h                     float64
	left, right, top, bottom float64
	x0, x1, y0, y1           float64 // data range
}

func newCanvas(w, h float64, title string) *canvas {
	c := &canvas{w: w, h: h, left: 58, right: 16, top: 14, bottom: 46}
	fmt.Fprintf(&c.b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, w, h, html.EscapeString(title))
	return c
}

func (c *canvas) x(v float64) float64 {
	return c.left + (v-c.x0)/(c.x1-c.x0)*(c.w-c.left-c.right)
}

func (c *canvas) y(v float64) float64 {
	return c.h - c.bottom - (v-c.y0)/(c.y1-c.y0)*(c.h-c.top-c.bottom)
}

func (c *canvas) end() template.HTML {
	c.b.WriteString("</svg>")
	return template.HTML(c.b.String())
}

func (c *canvas) text(x, y float64, class, anchor, s string) {
	fmt.Fprintf(&c.b, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`, x, y, class, anchor, html.EscapeString(s))
}

func (c *canvas) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&c.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

func (c *canvas) dot(x, y, r float64, class, tip string) {
	fmt.Fprintf(&c.b, `<circle cx="%.1f" cy="%.1f" r="%.1f" class="%s"><title>%s</title></circle>`, x, y, r, class, html.EscapeString(tip))
}

func (c *canvas) rect(x, y, w, h float64, class, tip string) {
	fmt.Fprintf(&c.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"><title>%s</title></rect>`, x, y, w, h, class, html.EscapeString(tip))
}

// axes draws grid, ticks and labels for the data range.
func (c *canvas) axes(xLabel, yLabel string, xTicks, yTicks []float64) {
	for _, v := range yTicks {
		c.line(c.left, c.y(v), c.w-c.right, c.y(v), "rule")
		c.text(c.left-7, c.y(v)+4, "tick", "end", tickText(v, yTicks))
	}
	for _, v := range xTicks {
		c.line(c.x(v), c.h-c.bottom, c.x(v), c.h-c.bottom+4, "axis")
		c.text(c.x(v), c.h-c.bottom+17, "tick", "middle", tickText(v, xTicks))
	}
	c.line(c.left, c.h-c.bottom, c.w-c.right, c.h-c.bottom, "axis")
	c.text(c.left+(c.w-c.left-c.right)/2, c.h-8, "label", "middle", xLabel)
	fmt.Fprintf(&c.b, `<text transform="translate(14 %.1f) rotate(-90)" class="label" text-anchor="middle">%s</text>`,
		c.top+(c.h-c.top-c.bottom)/2, html.EscapeString(yLabel))
}

// niceRange widens lo…hi to round ends and returns about n round ticks between them.
func niceRange(lo, hi float64, n int) (from, to float64, ticks []float64) {
	if math.IsInf(lo, 0) || math.IsInf(hi, 0) || lo > hi {
		lo, hi = 0, 1
	}
	if hi-lo < 1e-12*math.Max(1, math.Abs(hi)) {
		d := math.Max(math.Abs(hi)*0.1, 1e-6)
		lo, hi = lo-d, hi+d
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(n))))
	for _, m := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(step*m) <= float64(n) {
			step *= m
			break
		}
	}
	first, last := math.Floor(lo/step+1e-9), math.Ceil(hi/step-1e-9)
	for k := first; k <= last; k++ {
		ticks = append(ticks, k*step)
	}
	return first * step, last * step, ticks
}

// tickText writes v with as many digits as the step between ticks needs.
func tickText(v float64, ticks []float64) string {
	step := 1.0
	if len(ticks) > 1 {
		step = math.Abs(ticks[1] - ticks[0])
	}
	if big := math.Max(math.Abs(ticks[0]), math.Abs(ticks[len(ticks)-1])); big >= 1e5 || big < 1e-3 {
		if v == 0 {
			return "0"
		}
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.*f", max(0, int(math.Ceil(-math.Log10(step)-1e-9))), v)
}

func finite(p Point) bool {
	return !math.IsNaN(p.X) && !math.IsNaN(p.Y) && !math.IsInf(p.X, 0) && !math.IsInf(p.Y, 0)
}

// SVG draws the plot.
func (p Plot) SVG() template.HTML {
	c := newCanvas(520, 330, p.Title)
	lox, hix, loy, hiy := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, s := range slices.Concat(p.Series, p.Marks) {
		for _, q := range s.Points {
			if finite(q) {
				lox, hix = math.Min(lox, q.X), math.Max(hix, q.X)
				loy, hiy = math.Min(loy, q.Y), math.Max(hiy, q.Y)
			}
		}
	}
	if p.ZeroLine {
		loy, hiy = math.Min(loy, p.YLine), math.Max(hiy, p.YLine)
	}
	var xt, yt []float64
	c.x0, c.x1, xt = niceRange(lox, hix, 7)
	c.y0, c.y1, yt = niceRange(loy, hiy, 6)
	c.axes(p.XLabel, p.YLabel, xt, yt)
	if p.ZeroLine {
		c.line(c.left, c.y(p.YLine), c.w-c.right, c.y(p.YLine), "reference")
		c.text(c.w-c.right-4, c.y(p.YLine)-5, "tick", "end", p.YLineName)
	}
	for _, s := range p.Series {
		class := s.Class
		if s.Faint {
			class += " faint"
		}
		if !s.Dots {
			var path []string
			for _, q := range s.Points {
				if finite(q) {
					path = append(path, fmt.Sprintf("%.1f,%.1f", c.x(q.X), c.y(q.Y)))
				}
			}
			fmt.Fprintf(&c.b, `<polyline points="%s" class="line %s"/>`, strings.Join(path, " "), class)
		}
		r := 3.2
		if s.Faint {
			r = 2.2
		}
		for _, q := range s.Points {
			if finite(q) {
				c.dot(c.x(q.X), c.y(q.Y), r, "dot "+class, q.Text)
			}
		}
	}
	for _, s := range p.Marks {
		for _, q := range s.Points {
			if !finite(q) {
				continue
			}
			x, y := c.x(q.X), c.y(q.Y)
			c.dot(x, y, 5.5, "mark "+s.Class, q.Text)
			anchor, dx := "start", 9.0
			if x > c.w*0.7 {
				anchor, dx = "end", -9
			}
			c.text(x+dx, y+14, "name", anchor, s.Name)
		}
	}
	return c.end()
}

// BarPlot is a group of bars for every category, one bar a model.
type BarPlot struct {
	Title      string
	Categories []string
	Models     []Model
	Values     [][]Value // [category][model]
}

// SVG draws the bars on a scale from 0 to 1, or to the largest value.
func (p BarPlot) SVG() template.HTML {
	c := newCanvas(520, 300, p.Title)
	c.bottom = 34
	top := 1.0
	for _, row := range p.Values {
		for _, v := range row {
			if v.N > 0 && !math.IsNaN(v.Mean) {
				top = math.Max(top, v.Mean+v.SD)
			}
		}
	}
	var yt []float64
	c.y0, c.y1, yt = niceRange(0, top, 5)
	c.x0, c.x1 = 0, float64(max(1, len(p.Categories)))
	c.axes("", "", nil, yt)
	for i, name := range p.Categories {
		n := float64(len(p.Models))
		slot := (c.x(1) - c.x(0)) * 0.76
		left := c.x(float64(i)) + (c.x(1)-c.x(0))*0.12
		for m, model := range p.Models {
			v := p.Values[i][m]
			x := left + slot*float64(m)/n
			w := slot/n - 3
			tip := fmt.Sprintf("%s, %s: %s", name, model.Label, v)
			if v.N == 0 || math.IsNaN(v.Mean) {
				c.text(x+w/2, c.y(0)-4, "tick", "middle", "n/a")
				continue
			}
			c.rect(x, c.y(v.Mean), w, math.Max(1, c.y(0)-c.y(v.Mean)), "bar "+model.Key, tip)
			if v.SD > 0 {
				lo, hi := math.Max(0, v.Mean-v.SD), v.Mean+v.SD
				c.line(x+w/2, c.y(lo), x+w/2, c.y(hi), "whisker")
				c.line(x+w/2-3, c.y(lo), x+w/2+3, c.y(lo), "whisker")
				c.line(x+w/2-3, c.y(hi), x+w/2+3, c.y(hi), "whisker")
			}
			c.text(x+w/2, c.y(v.Mean+v.SD)-5, "value", "middle", fmt.Sprintf("%.2f", v.Mean))
		}
		c.text(left+slot/2, c.h-12, "label", "middle", name)
	}
	return c.end()
}

// histogram draws the distribution of the scores.
func histogram(samples []Sample) template.HTML {
	c := newCanvas(520, 330, "Distribution of the scores")
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, s := range samples {
		if !math.IsNaN(s.Score) {
			lo, hi = math.Min(lo, s.Score), math.Max(hi, s.Score)
		}
	}
	// Freedman and Diaconis would need quartiles; √n bins read as well at these sizes.
	n := min(40, max(5, int(math.Ceil(math.Sqrt(float64(len(samples)))))))
	var xt []float64
	c.x0, c.x1, xt = niceRange(lo, hi, 7)
	bins := make([]int, n)
	most := 0
	for _, s := range samples {
		if math.IsNaN(s.Score) {
			continue
		}
		k := min(n-1, int(float64(n)*(s.Score-c.x0)/(c.x1-c.x0)))
		bins[k]++
		most = max(most, bins[k])
	}
	var yt []float64
	c.y0, c.y1, yt = niceRange(0, float64(max(1, most)), 5)
	yt = slices.DeleteFunc(yt, func(v float64) bool { return v != math.Trunc(v) })
	c.axes("attribution score", "samples", xt, yt)
	for k, count := range bins {
		from, to := c.x0+(c.x1-c.x0)*float64(k)/float64(n), c.x0+(c.x1-c.x0)*float64(k+1)/float64(n)
		if count > 0 {
			c.rect(c.x(from)+0.5, c.y(float64(count)), c.x(to)-c.x(from)-1, c.y(0)-c.y(float64(count)), "bar guard",
				fmt.Sprintf("%s to %s: %d samples", Number(from), Number(to), count))
		}
	}
	if c.x0 < 0 && c.x1 > 0 {
		c.line(c.x(0), c.top, c.x(0), c.h-c.bottom, "reference")
	}
	return c.end()
}

// weightScatter draws the weight n·w of each sample over its score.
func weightScatter(samples []Sample) template.HTML {
	pts := make([]Point, len(samples))
	for i, s := range samples {
		pts[i] = Point{s.Score, s.Weight, fmt.Sprintf("sample %d: score %s, weight %s", s.I, Number(s.Score), Number(s.Weight))}
	}
	return Plot{
		Title: "Weights over scores", XLabel: "attribution score", YLabel: "weight (1 = plain)",
		Series:   []Series{{Class: "guard", Points: pts, Dots: true}},
		ZeroLine: true, YLine: 1, YLineName: "plain",
	}.SVG()
}

// sacrificeStrip draws the sacrifice rates: a dot a seed, a bar at each mean.
func sacrificeStrip(rows []SacrificeRow, seeds []string) template.HTML {
	const lane = 64.0
	c := newCanvas(520, 60+lane*float64(len(rows)), "Sacrifice rates")
	c.left, c.bottom = 96, 44
	lo, hi := 0.0, 0.0
	for _, r := range rows {
		for _, v := range slices.Concat(r.Baseline, r.Guard) {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				lo, hi = math.Min(lo, v), math.Max(hi, v)
			}
		}
	}
	var xt []float64
	c.x0, c.x1, xt = niceRange(lo, hi, 6)
	for _, v := range xt {
		c.line(c.x(v), c.top, c.x(v), c.h-c.bottom, "rule")
		c.text(c.x(v), c.h-c.bottom+17, "tick", "middle", tickText(v, xt))
	}
	c.line(c.x(0), c.top, c.x(0), c.h-c.bottom, "axis")
	c.text(c.left+(c.w-c.left-c.right)/2, c.h-6, "label", "middle", "sacrifice rate (left is better)")
	for i, r := range rows {
		mid := c.top + lane*(float64(i)+0.5)
		c.text(c.left-10, mid+4, "label", "end", r.Metric)
		for k, lane := range []struct {
			class  string
			values []float64
			mean   Value
		}{{"baseline", r.Baseline, r.BaselineValue()}, {"guard", r.Guard, r.GuardValue()}} {
			y := mid - 13 + 26*float64(k)
			switch mean := lane.mean.Mean; {
			case Of(lane.values).N == 0:
				c.text(c.x(0)+6, y+4, "tick", "start", "undefined")
			case math.IsInf(mean, 0):
				c.text(c.x(0)+6, y+4, "tick", "start", "infinite")
			case lane.mean.N > 0:
				x0, x1 := c.x(math.Min(0, mean)), c.x(math.Max(0, mean))
				c.rect(x0, y-7, math.Max(1.5, x1-x0), 14, "bar soft "+lane.class, lane.mean.String())
			}
			for s, v := range lane.values {
				if !math.IsNaN(v) && !math.IsInf(v, 0) {
					c.dot(c.x(v), y, 3.4, "dot "+lane.class, fmt.Sprintf("seed %s: %s", seeds[s], Number(v)))
				}
			}
		}
	}
	return c.end()
}
