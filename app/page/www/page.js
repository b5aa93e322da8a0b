// The page begins here: tabs register themselves, then the one of the address is shown.
import { begin, connected } from "./core.js";
import "./explore.js";
import "./trial.js";
import "./mechanism.js";
import "./evidence.js";
import "./lessons.js";

connected.then(begin);
