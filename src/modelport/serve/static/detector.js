import { byId } from "./common.js"; byId("x");
