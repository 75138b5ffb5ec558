// The one entry point of every page. Each part works on what it finds, now and after swaps.
import "./wire.js";
import "./frame.js";
import "./dialogs.js";
import "./drawers.js";
import "./notices.js";
import "./grids.js";
import "./clocks.js";
import "./forms.js";
import "./nodes.js";
