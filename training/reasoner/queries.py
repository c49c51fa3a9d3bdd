# SPDX-License-Identifier: Apache-2.0
"""Implicit clinical questions for each target of the phantom.

A question describes its target by function, symptom, appearance or position and never names it
(``stems`` lists what may not occur). ``trained`` are the phrasings of the training set;
``held_out`` are never trained on and measure whether the model has learned more than strings. To
add a target, give it a label in ``phantom.anatomy.Label`` and an entry here.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..phantom.anatomy import Label


@dataclass(frozen=True)
class Target:
    """One thing that can be asked for: its name in the reasoning and its questions."""

    name: str
    stems: tuple[str, ...]
    trained: tuple[str, ...]
    held_out: tuple[str, ...]


TARGETS: dict[Label, Target] = {
    Label.RIGHT_LUNG: Target(
        "right lung",
        ("lung", "pulmon"),
        (
            "Which air-filled organ exchanges gas on the same side as the liver?",
            "Outline the aerated respiratory organ above the liver.",
            "Where would a pneumonia in the patient's right chest be seen?",
            "Locate the dark, air-containing organ on the patient's right side.",
            "Which breathing organ lies on the left side of the image?",
            "Mark the organ with three lobes that takes up oxygen.",
            "Which organ collapses in a right-sided pneumothorax?",
            "Show the aerated tissue to the right of the patient's heart.",
            "Find the respiratory organ on the side of the liver.",
            "Which dark organ in the chest lies on the patient's right?",
        ),
        (
            "Locate the respiratory organ with three lobes.",
            "Which air-containing organ of the chest is on the same side as the liver?",
            "Outline the dark breathing organ on the patient's right side.",
        ),
    ),
    Label.LEFT_LUNG: Target(
        "left lung",
        ("lung", "pulmon"),
        (
            "Which air-filled organ exchanges gas on the side opposite the liver?",
            "Outline the aerated respiratory organ above the spleen.",
            "Where would a pneumonia in the patient's left chest be seen?",
            "Locate the dark, air-containing organ on the patient's left side.",
            "Which breathing organ lies on the right side of the image?",
            "Mark the organ with two lobes that takes up oxygen.",
            "Which organ collapses in a left-sided pneumothorax?",
            "Show the aerated tissue to the left of the patient's heart.",
            "Find the respiratory organ on the side of the spleen.",
            "Which dark organ in the chest lies on the patient's left?",
        ),
        (
            "Locate the respiratory organ with two lobes.",
            "Which air-containing organ of the chest is on the same side as the spleen?",
            "Outline the dark breathing organ on the patient's left side.",
        ),
    ),
    Label.HEART: Target(
        "heart",
        ("heart", "cardi"),
        (
            "Which muscular pump drives the circulation?",
            "Locate the beating organ with four chambers.",
            "Which organ lies between the two lungs and pumps blood?",
            "Where does the muscle damaged by an infarction of the coronary arteries lie?",
            "Outline the contracting organ in the middle of the chest.",
            "Which organ's failure leads to breathlessness and swollen legs?",
            "Mark the organ that is examined for valve disease.",
            "Show the structure that is enlarged when the ventricles dilate.",
            "Which organ beats about seventy times a minute?",
            "Find the organ whose rhythm an electrocardiogram records.",
        ),
        (
            "Which pumping organ with ventricles lies in the chest?",
            "Locate the muscular organ between the lungs.",
            "Outline the beating organ that pumps blood into the circulation.",
        ),
    ),
    Label.AORTA: Target(
        "aorta",
        ("aort",),
        (
            "Which vessel carries blood from the heart to the abdomen?",
            "Where would an aneurysm of the main artery be measured?",
            "Locate the largest artery in front of the spine.",
            "Which round vessel lies slightly left of the vertebral body?",
            "Mark the vessel in which a dissection causes tearing back pain.",
            "Outline the great artery whose wall calcifies with age.",
            "Which vessel divides into the two iliac arteries?",
            "Show the artery that gives off both renal arteries.",
            "Find the pulsating vessel beside the inferior vena cava.",
            "Which vessel is screened with ultrasound in older smokers?",
        ),
        (
            "Which great artery in front of the spine may show an aneurysm?",
            "Locate the main artery left of the vertebral body.",
            "Outline the large vessel in which a dissection would be sought.",
        ),
    ),
    Label.LIVER: Target(
        "liver",
        ("liver", "hepat"),
        (
            "Which organ filling the right upper quadrant produces bile?",
            "Find the largest solid organ, which metabolises most drugs.",
            "Which organ is scarred in cirrhosis?",
            "Locate the large organ below the right diaphragm.",
            "Which organ is damaged by years of heavy drinking?",
            "Outline the organ that becomes fatty in obesity.",
            "Mark the large solid organ on the left side of the image.",
            "Where does the portal vein deliver its blood?",
            "Which organ makes albumin and clotting factors?",
            "Show the organ to which colon cancer spreads first.",
        ),
        (
            "Which large organ under the right diaphragm metabolises drugs?",
            "Locate the organ that makes bile and albumin.",
            "Outline the solid organ that is scarred by heavy drinking.",
        ),
    ),
    Label.SPLEEN: Target(
        "spleen",
        ("spleen", "splen"),
        (
            "Which organ filters aged red blood cells?",
            "Locate the organ most at risk of rupture after left flank trauma.",
            "Which organ of the immune system lies in the left upper quadrant?",
            "Outline the crescent-shaped organ beside the stomach.",
            "Which organ is enlarged in portal hypertension and lymphoma?",
            "Mark the solid organ at the back on the right side of the image.",
            "Which organ may swell in mononucleosis, so that contact sport is forbidden?",
            "Show the organ behind the stomach that stores platelets.",
            "Which organ's loss calls for vaccination against pneumococci?",
            "Find the solid organ above the left kidney, next to the ribs.",
        ),
        (
            "Which organ beside the stomach filters old red blood cells?",
            "Locate the crescent-shaped immune organ in the left upper quadrant.",
            "Outline the solid organ that may rupture after trauma on the left.",
        ),
    ),
    Label.STOMACH: Target(
        "stomach",
        ("stomach", "gastr"),
        (
            "Which hollow organ receives swallowed food first?",
            "Locate the organ in which acid secretion causes a peptic ulcer.",
            "Which organ is infected by Helicobacter pylori?",
            "Outline the organ with an air-fluid level in front of the spleen.",
            "Which organ churns food before it enters the duodenum?",
            "Mark the hollow organ below the left diaphragm.",
            "Which organ is made smaller by bariatric surgery?",
            "Show the hollow organ that is emptied by vomiting.",
            "Find the food-filled organ between the liver and the spleen.",
            "Where does the oesophagus end?",
        ),
        (
            "Which hollow organ between the liver and the spleen receives food?",
            "Locate the organ that secretes acid and may have a peptic ulcer.",
            "Outline the air and fluid filled hollow organ under the left diaphragm.",
        ),
    ),
    Label.GALLBLADDER: Target(
        "gallbladder",
        ("gall", "cholecyst"),
        (
            "Which small sac stores bile?",
            "Locate the pear-shaped fluid-filled organ under the liver.",
            "Where do stones cause colic after a fatty meal?",
            "Which organ is inflamed when Murphy's sign is positive?",
            "Outline the bile-filled sac beside the liver.",
            "Which organ contracts after a fatty meal to release bile?",
            "Mark the dark oval sac at the lower edge of the liver.",
            "Show the organ in which bile is concentrated.",
            "Which sac is removed by keyhole surgery because of stones?",
            "Find the sac that the cystic duct drains.",
        ),
        (
            "Which pear-shaped sac under the liver concentrates bile?",
            "Locate the small organ where stones form and Murphy's sign is sought.",
            "Outline the sac that releases bile after a fatty meal.",
        ),
    ),
    Label.RIGHT_KIDNEY: Target(
        "right kidney",
        ("kidney", "renal", "nephr"),
        (
            "Which urine-producing organ lies below the liver?",
            "Flank pain on the right: show the filtering organ that may hold a stone.",
            "Locate the bean-shaped organ on the patient's right side.",
            "Which bean-shaped organ lies behind the liver?",
            "Outline the urine-forming organ on the left side of the image.",
            "Which organ filters blood on the same side as the liver?",
            "Mark the bean-shaped organ that the right ureter drains.",
            "Show the filtering organ beside the right psoas muscle.",
            "Which organ in the right flank is obstructed when the right ureter is blocked?",
            "Find the organ in the right flank that makes urine.",
        ),
        (
            "Which bean-shaped organ in the right flank makes urine?",
            "Locate the filtering organ below the liver.",
            "Outline the organ that is drained by the right ureter.",
        ),
    ),
    Label.LEFT_KIDNEY: Target(
        "left kidney",
        ("kidney", "renal", "nephr"),
        (
            "Which urine-producing organ lies below the spleen?",
            "Flank pain on the left: show the filtering organ that may hold a stone.",
            "Locate the bean-shaped organ on the patient's left side.",
            "Which bean-shaped organ lies behind the tail of the pancreas?",
            "Outline the urine-forming organ on the right side of the image.",
            "Which organ filters blood on the same side as the spleen?",
            "Mark the bean-shaped organ that the left ureter drains.",
            "Show the filtering organ beside the left psoas muscle.",
            "Which organ in the left flank is obstructed when the left ureter is blocked?",
            "Find the organ in the left flank that makes urine.",
        ),
        (
            "Which bean-shaped organ in the left flank makes urine?",
            "Locate the filtering organ below the spleen.",
            "Outline the organ that is drained by the left ureter.",
        ),
    ),
    Label.PANCREAS: Target(
        "pancreas",
        ("pancrea",),
        (
            "Which gland secretes insulin?",
            "Locate the gland that is inflamed when lipase is high.",
            "Which gland lies behind the stomach, in front of the splenic vein?",
            "Outline the gland whose head lies inside the curve of the duodenum.",
            "Which organ's tumour causes painless jaundice?",
            "Mark the elongated gland in the upper abdomen that makes digestive enzymes.",
            "Which gland fails in type 1 diabetes?",
            "Show the gland that regulates blood sugar.",
            "Find the gland that produces lipase and amylase.",
            "Belt-like upper abdominal pain and high lipase: which gland is affected?",
        ),
        (
            "Which elongated gland regulates blood sugar with insulin?",
            "Locate the gland behind the stomach that makes digestive enzymes.",
            "Outline the gland that is affected when lipase is high.",
        ),
    ),
    Label.SPINE: Target(
        "vertebra",
        ("vertebra", "spine", "backbone"),
        (
            "Which bony structure protects the cord?",
            "Where would a compression fracture from osteoporosis appear?",
            "Locate the bone in the midline behind the great vessels.",
            "Which bone carries the weight of the trunk?",
            "Outline the bright bone in the middle of the back.",
            "Which bone is fused to its neighbours in Bechterew's disease?",
            "Mark the bone from which the ribs arise.",
            "Show the bone next to which the psoas muscles arise.",
            "Where does a disc herniation press on the nerve roots?",
            "Find the bone with a canal for the nerves.",
        ),
        (
            "Which bone in the midline of the back protects the cord?",
            "Locate the bright bone in which osteoporosis causes a fracture.",
            "Outline the bone between the two psoas muscles.",
        ),
    ),
    Label.BLADDER: Target(
        "urinary bladder",
        ("bladder", "cyst"),
        (
            "Which organ stores urine?",
            "Locate the fluid-filled organ in the middle of the pelvis.",
            "Which organ is emptied by a catheter in urinary retention?",
            "Outline the reservoir behind the pubic bone.",
            "Which hollow organ do both ureters drain into?",
            "Mark the organ that lies in front of the rectum and fills with urine.",
            "Painless blood in the urine: which hollow pelvic organ is inspected?",
            "Show the pelvic organ that is full before voiding.",
            "Which pelvic organ causes burning when it is infected?",
            "Find the round water-filled organ in the pelvis.",
        ),
        (
            "Which pelvic reservoir stores urine before voiding?",
            "Locate the hollow organ that both ureters fill.",
            "Outline the fluid-filled organ behind the pubic bone.",
        ),
    ),
    Label.VENA_CAVA: Target(
        "inferior vena cava",
        ("cava", "caval"),
        (
            "Which vein returns blood from the legs to the heart?",
            "Locate the largest vein of the abdomen.",
            "Where would a filter against leg clots be placed?",
            "Which vessel runs to the right of the aorta?",
            "Outline the great vein beside the aorta.",
            "Which vein is formed by the two iliac veins?",
            "Mark the vein that receives both renal veins.",
            "Which vessel is flat when the patient lacks volume?",
            "Show the large vein behind the liver.",
            "Find the vein that the hepatic veins drain into.",
        ),
        (
            "Which great vein to the right of the aorta returns blood to the heart?",
            "Locate the large vein that receives the iliac veins.",
            "Outline the vein in which a filter against clots is placed.",
        ),
    ),
    Label.TRACHEA: Target(
        "trachea",
        ("trachea", "windpipe"),
        (
            "Which tube carries air to both lungs?",
            "Locate the airway in the midline of the upper chest.",
            "Where does the tip of a breathing tube belong?",
            "Outline the dark round airway in front of the oesophagus.",
            "Which airway divides into the two main bronchi?",
            "Mark the air-filled tube between the lungs.",
            "Which tube is kept open by rings of cartilage?",
            "Show the airway that a large goitre narrows.",
            "Find the air column in the upper mediastinum.",
            "Where is a swallowed toy stuck that causes a harsh breathing noise?",
        ),
        (
            "Which dark tube in the midline carries air?",
            "Locate the airway with rings of cartilage.",
            "Outline the airway that divides into the main bronchi.",
        ),
    ),
    Label.LIVER_LESION: Target(
        "liver lesion",
        ("lesion", "metasta"),
        (
            "Which focal finding in the liver could be a tumour?",
            "Locate the round dark area inside the liver.",
            "Where would a biopsy of the suspicious liver mass be taken?",
            "Outline the abnormal spot within the liver.",
            "Is there a mass in the liver? Show it.",
            "Mark the focus in the liver that does not look like normal tissue.",
            "Rising tumour markers: which nodule in the liver explains them?",
            "Show the hypodense focus in the liver.",
            "Which circumscribed area of the liver differs from the rest?",
            "Find the suspicious nodule of the liver.",
        ),
        (
            "Where is the suspicious focus within the liver?",
            "Locate the round mass in the liver that could be a tumour.",
            "Outline the dark circumscribed spot of the liver.",
        ),
    ),
    Label.KIDNEY_CYST: Target(
        "renal cyst",
        ("cyst",),
        (
            "Which fluid-filled bulge arises from a kidney?",
            "Locate the round water-dense finding at the kidney.",
            "Where is the harmless fluid collection of the kidney?",
            "Outline the round dark bulge on the surface of a kidney.",
            "Which finding of the kidney would be classified as Bosniak I?",
            "Mark the thin-walled fluid sac of a kidney.",
            "Show the water-filled round finding beside the renal cortex.",
            "Which smooth round finding at the kidney does not enhance?",
            "Is there a fluid-filled sac at a kidney? Show it.",
            "Find the dark round bulge of a kidney.",
        ),
        (
            "Where is the round fluid sac at the kidney?",
            "Locate the water-filled bulge that arises from a kidney.",
            "Outline the smooth dark finding on the surface of the kidney.",
        ),
    ),
    Label.LUNG_TUMOUR: Target(
        "lung tumour",
        ("tumour", "tumor", "cancer"),
        (
            "Which solid mass in the lung needs a biopsy?",
            "Locate the bright round mass within the aerated lung.",
            "A smoker coughs blood: which finding in the lung is suspicious?",
            "Where is the coin-shaped shadow of the lung?",
            "Outline the solid nodule surrounded by air.",
            "Is there a mass in a lung? Show it.",
            "Mark the suspicious nodule of the lung.",
            "Weight loss in a smoker: show the solid finding inside the lung.",
            "Which round solid finding lies within the lung?",
            "Find the soft tissue mass in the lung.",
        ),
        (
            "Where is the suspicious solid mass of the lung?",
            "Locate the round nodule in the lung of a smoker who coughs blood.",
            "Outline the solid mass surrounded by aerated lung.",
        ),
    ),
    Label.PLEURAL_EFFUSION: Target(
        "pleural effusion",
        ("effusion", "pleura"),
        (
            "Where has fluid collected behind the lung?",
            "Which fluid makes the base of the lung dull to percussion?",
            "Locate the fluid layer at the back of the chest.",
            "Where would a chest drain be placed to let fluid out?",
            "Outline the fluid between the lung and the chest wall.",
            "Mark the crescent of fluid that compresses the lung from behind.",
            "Breathlessness and a dull lung base: show the fluid.",
            "Is there free fluid in the chest cavity? Show it.",
            "Which fluid would be tapped with a needle through the back?",
            "Find the fluid that lies dependent in the chest.",
        ),
        (
            "Where is free fluid in the chest behind the lung?",
            "Locate the layer of fluid that compresses the lung.",
            "Outline the fluid that a chest drain would let out.",
        ),
    ),
}

PREFIXES: tuple[str, ...] = (
    "On this slice, ",
    "In this image, ",
    "Please answer: ",
    "Here: ",
    "Radiology question: ",
    "On this CT, ",
)
SUFFIXES: tuple[str, ...] = (" Please show it.", " Give box and points.", " Thank you.")
