// The page: takes pictures and states from the program, shows them, and never an old one as new.

import "./controls.js";
import { describeCharts, drawCharts } from "./charts.js";
import { openSocket } from "./link.js";
import { show } from "./screen.js";

setInterval(() => {
  show();
  drawCharts();
}, 125);
setInterval(describeCharts, 5000);
openSocket();
