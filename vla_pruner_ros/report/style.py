"""The look of the reports, light and dark."""

STYLE = """
:root{--ground:#fbfbfa;--card:#fff;--ink:#1c1f23;--soft:#626a73;--line:#e4e6e8;--grid:#eceeef;
--accent:#1f6feb;--warn:#9a6700;--warn-ground:#fff8e5;--error:#b42318;--error-ground:#fdf0ee;
--info-ground:#eef4fd;--s0:#1f6feb;--s1:#d9590c;--s2:#0f8f76;--s3:#b5309f;--s4:#b98900;
--s5:#5b4fc9;--s6:#3b93b8;--s7:#777f88}
@media(prefers-color-scheme:dark){:root{--ground:#111417;--card:#181c20;--ink:#e7eaed;
--soft:#9aa4ae;--line:#2b3137;--grid:#23282d;--accent:#6cacff;--warn:#e3b341;
--warn-ground:#2a2310;--error:#ff8a7d;--error-ground:#2e1815;--info-ground:#15233a;
--s0:#6cacff;--s1:#ff9452;--s2:#3fcfb2;--s3:#ec84d9;--s4:#e6bd45;--s5:#a79dff;--s6:#7fd0ee;
--s7:#a3abb3}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.55 Inter,system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
-webkit-font-smoothing:antialiased}
main{max-width:1120px;margin:0 auto;padding:44px 28px 96px}
h1{display:flex;flex-wrap:wrap;align-items:center;gap:8px 14px;
font-size:29px;line-height:1.2;letter-spacing:-.018em;margin:0;font-weight:650}
h2{font-size:19px;letter-spacing:-.01em;margin:0 0 4px;font-weight:620}
.subtitle,.lead,figcaption,caption{color:var(--soft)}
.subtitle{margin:8px 0 0;overflow-wrap:anywhere}.lead{margin:0 0 16px;max-width:76ch}
p{margin:0 0 12px;max-width:80ch}
.badge{padding:3px 10px;border-radius:99px;font-size:13px;
font-weight:600;letter-spacing:0;color:var(--warn);
background:var(--warn-ground);border:1px solid currentColor}
nav{display:flex;flex-wrap:wrap;gap:4px 20px;margin:26px 0 0;padding:11px 0;
border-block:1px solid var(--line);font-size:14px}
nav a{color:var(--soft);text-decoration:none}nav a:hover{color:var(--accent)}
section{margin-top:40px;scroll-margin-top:16px}
.note{padding:10px 14px;border-radius:8px;background:var(--info-ground);max-width:none}
.note.warning{background:var(--warn-ground);color:var(--warn)}
.note.error{background:var(--error-ground);color:var(--error)}
.tiles{display:flex;flex-wrap:wrap;gap:1px;margin:18px 0;
background:var(--line);border:1px solid var(--line);border-radius:12px;overflow:hidden}
.tile{flex:1 1 150px;background:var(--card);padding:15px 18px 13px}
.tile dt{color:var(--soft);font-size:13px}
.tile dd{margin:2px 0 0;font-size:25px;font-weight:620;letter-spacing:-.02em;line-height:1.25;
font-variant-numeric:tabular-nums}
.tile small{display:block;font-size:13px;font-weight:400;letter-spacing:0;color:var(--soft)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:12px;background:var(--card);
margin:12px 0 18px}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:11px 16px 0;font-size:13px}
th,td{padding:8px 11px;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:550;color:var(--soft);font-size:13px;white-space:normal;
vertical-align:bottom;line-height:1.3}
th:first-child,td:first-child{padding-left:16px}
th:last-child,td:last-child{padding-right:16px}
tbody tr:last-child td{border-bottom:0}tbody tr:hover{background:var(--grid)}
.number{text-align:right}
figure{margin:12px 0 18px;padding:14px 16px;border:1px solid var(--line);border-radius:12px;
background:var(--card)}
figcaption{font-size:13px;margin-bottom:8px}
.columns{display:grid;gap:0 18px;
grid-template-columns:repeat(auto-fit,minmax(min(100%,var(--least)),1fr))}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;margin:2px 0 8px}
.key{display:inline-flex;align-items:center;gap:7px}
.swatch{width:14px;height:4px;border-radius:2px;background:var(--c)}
.s0{--c:var(--s0)}.s1{--c:var(--s1)}.s2{--c:var(--s2)}.s3{--c:var(--s3)}
.s4{--c:var(--s4)}.s5{--c:var(--s5)}.s6{--c:var(--s6)}.s7{--c:var(--s7)}
.plot{position:relative}.plot svg{display:block;width:100%;height:auto;overflow:visible}
.plot text{font:12px Inter,system-ui,"DejaVu Sans",sans-serif;fill:var(--soft)}
.plot .grid{stroke:var(--grid)}.plot .axis{stroke:var(--line)}
.plot .curve{fill:none;stroke:var(--c);stroke-width:1.7;stroke-linejoin:round;
vector-effect:non-scaling-stroke}
.plot .dashed{stroke-dasharray:5 4}.plot .dot,.plot .bar{fill:var(--c)}
.plot .bar{fill-opacity:.6}.plot .name{fill:var(--ink);font-weight:550}
.plot .median{stroke:var(--s1);stroke-width:2}
.plot .cross{stroke:var(--soft);stroke-dasharray:2 3;visibility:hidden}
.tip{position:absolute;top:6px;pointer-events:none;visibility:hidden;padding:6px 10px;
border-radius:8px;background:var(--card);border:1px solid var(--line);font-size:12px;
line-height:1.5;box-shadow:0 4px 16px #0002;white-space:nowrap;z-index:2;
font-variant-numeric:tabular-nums}
.slider img,.picture{display:block;width:100%;height:auto;border-radius:8px;background:#000;
image-rendering:auto}
.slider .controls{display:flex;align-items:center;gap:12px;margin-top:10px}
.slider input{flex:1;min-width:60px;accent-color:var(--accent)}
.slider button{border:1px solid var(--line);border-radius:8px;background:var(--card);
color:var(--ink);font:inherit;font-size:13px;padding:4px 0;width:70px;cursor:pointer}
.slider button:hover{border-color:var(--accent);color:var(--accent)}
.slider output{font-size:13px;color:var(--soft);min-width:70px;text-align:right;
font-variant-numeric:tabular-nums}
.slider .caption{margin:8px 0 0;font-size:13px;min-height:1.55em;overflow-wrap:anywhere}
@media print{nav,.controls{display:none}section{break-inside:avoid}}
"""
